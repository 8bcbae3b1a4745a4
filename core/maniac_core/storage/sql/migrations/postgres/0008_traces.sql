-- Traces are listed by where they begin in the ledger, exactly, and counted as they come.

ALTER TABLE traces ADD COLUMN first_seq bigint NOT NULL DEFAULT 0;

DROP INDEX traces_first_seen;
CREATE INDEX traces_newest ON traces (project, first_seen, first_seq, id);

CREATE TABLE trace_counts_folded (
  project bigint NOT NULL PRIMARY KEY,
  traces  bigint NOT NULL
);

CREATE TABLE trace_counts_deltas (LIKE trace_counts_folded)
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX trace_counts_deltas_key ON trace_counts_deltas (project);

CREATE VIEW trace_counts AS
SELECT project,
       SUM(traces)::bigint AS traces
  FROM (SELECT * FROM trace_counts_folded UNION ALL SELECT * FROM trace_counts_deltas) rows
 GROUP BY project;

INSERT INTO trace_counts_folded (project, traces) SELECT project, COUNT(*) FROM traces GROUP BY project;

CREATE FUNCTION count_traces() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO trace_counts_deltas (project, traces) SELECT project, COUNT(*) FROM changed GROUP BY project;
  ELSE
    INSERT INTO trace_counts_deltas (project, traces) SELECT project, -COUNT(*) FROM changed GROUP BY project;
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER traces_inserted AFTER INSERT ON traces
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_traces();
CREATE TRIGGER traces_deleted AFTER DELETE ON traces
  REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_traces();
