-- Evaluators. JSON columns hold text as it came; what the kind does not have, and what is absent, is NULL.

CREATE TABLE evaluators (
  id                   INTEGER PRIMARY KEY,
  uid                  TEXT    NOT NULL UNIQUE,
  project              INTEGER NOT NULL REFERENCES projects (id),
  name                 TEXT    NOT NULL,
  description          TEXT,
  container            INTEGER REFERENCES containers (id),
  mode                 TEXT    NOT NULL,
  api                  TEXT,
  pass_threshold       REAL,
  metadata             TEXT,
  kind                 TEXT    NOT NULL,
  model                TEXT,
  prompt               TEXT,
  inference_parameters TEXT,
  source               TEXT,
  requirements         TEXT,
  created              INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX evaluators_name ON evaluators (project, name);
CREATE INDEX evaluators_newest ON evaluators (project, created, id);
CREATE INDEX evaluators_container ON evaluators (project, container, created, id) WHERE container IS NOT NULL;
