-- Traces are listed by where they begin in the ledger, exactly, and counted as they come.

ALTER TABLE traces ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 0;

DROP INDEX traces_first_seen;
CREATE INDEX traces_newest ON traces (project, first_seen, first_seq, id);

CREATE TABLE trace_counts (
  project INTEGER NOT NULL PRIMARY KEY,
  traces  INTEGER NOT NULL
) STRICT;

INSERT INTO trace_counts (project, traces) SELECT project, COUNT(*) FROM traces GROUP BY project;

CREATE TRIGGER traces_inserted AFTER INSERT ON traces BEGIN
  INSERT INTO trace_counts (project, traces) VALUES (NEW.project, 1)
  ON CONFLICT (project) DO UPDATE SET traces = trace_counts.traces + 1;
END;
CREATE TRIGGER traces_deleted AFTER DELETE ON traces BEGIN
  UPDATE trace_counts SET traces = traces - 1 WHERE project = OLD.project;
END;
