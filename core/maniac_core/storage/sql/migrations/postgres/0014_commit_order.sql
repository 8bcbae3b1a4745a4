-- Oldest first, lists go by position, which is the order of commits: who follows a list misses nothing. The time of
-- creation is that of the beginning, and what began first may be committed last.

-- Positions are taken while a batch is written, and not by the thousand beforehand. Cores of the version before go on
-- taking those of completion_seq: room is left for them.
CREATE SEQUENCE completion_positions AS bigint;
SELECT setval('completion_positions', last_value + 10000000) FROM completion_seq WHERE is_called;

-- Take positions for rows that this transaction adds. Until it ends, its lock says which positions may still come to
-- be: those after the last one there was when it began. The key is minus that one, minus one; no other lock of this
-- database has a negative key.
CREATE FUNCTION take_positions(wanted bigint) RETURNS bigint[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  before bigint;
BEGIN
  SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO before FROM completion_positions;
  PERFORM pg_advisory_xact_lock_shared(-before - 1);
  RETURN ARRAY(SELECT nextval('completion_positions') FROM generate_series(1, wanted));
END
$$;

-- The last position that was taken, and the last one up to which every transaction has ended. What is read after this
-- shows all rows up to there that there will ever be. The sequence is looked at before the locks: a transaction that
-- is in neither begins later.
CREATE FUNCTION settled_positions(OUT taken bigint, OUT settled bigint) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO taken FROM completion_positions;
  SELECT MIN(-((l.classid::bigint << 32) | l.objid::bigint) - 1) INTO settled
    FROM pg_locks l
   WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::bigint >= 2147483648
     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
  settled := LEAST(taken, settled);
END
$$;

CREATE INDEX completions_listed_order ON completions (project, seq) WHERE listed = 1;
CREATE INDEX completions_model_order ON completions (project, model, seq) WHERE listed = 1;
CREATE INDEX completions_container_order ON completions (project, container, seq)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completions_container_model_order ON completions (project, container, model, seq)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completion_facets_order ON completion_facets (facet, seq);
