-- Datasets: which completions of a container were taken, in order. Their bodies stay where they are; retention passes
-- over what an item names.

-- state: building until every item is there, then ready; discarded while its items are deleted. What is not ready is
-- in nobody's sight, and whatever is left of it after lease may be deleted by anybody.
CREATE TABLE datasets (
  id             INTEGER PRIMARY KEY,
  uid            TEXT    NOT NULL UNIQUE,
  project        INTEGER NOT NULL REFERENCES projects (id),
  container      INTEGER NOT NULL REFERENCES containers (id),
  name           TEXT    NOT NULL,
  description    TEXT,
  requested_size INTEGER NOT NULL,
  size           INTEGER NOT NULL,
  filters        TEXT,
  tags           TEXT,
  metadata       TEXT,
  content_hash   BLOB,
  state          TEXT    NOT NULL,
  lease          INTEGER NOT NULL,
  created        INTEGER NOT NULL
) STRICT;

CREATE INDEX datasets_newest ON datasets (project, state, created, id);
CREATE INDEX datasets_container ON datasets (project, container, state, created, id);
CREATE INDEX datasets_state ON datasets (state, lease);

-- Positions count from 0, the newest completion first.
CREATE TABLE dataset_items (
  dataset      INTEGER NOT NULL REFERENCES datasets (id),
  position     INTEGER NOT NULL,
  seq          INTEGER NOT NULL,
  created      INTEGER NOT NULL,
  completion   TEXT    NOT NULL,
  content_hash BLOB    NOT NULL,
  PRIMARY KEY (dataset, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX dataset_items_completion ON dataset_items (seq);
