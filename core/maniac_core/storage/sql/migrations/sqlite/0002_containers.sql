-- Containers and the models attached to them. JSON columns hold text as it came; absent is NULL.

CREATE TABLE containers (
  id                        INTEGER PRIMARY KEY,
  uid                       TEXT    NOT NULL UNIQUE,
  project                   INTEGER NOT NULL REFERENCES projects (id),
  label                     TEXT    NOT NULL,
  api                       TEXT    NOT NULL,
  initial_model             TEXT    NOT NULL,
  default_model             TEXT,
  best_model_id             TEXT,
  default_system_prompt     TEXT,
  default_parameters        TEXT,
  default_few_shot          TEXT,
  system_prompt_prefix      TEXT,
  optimized_system_prompt   TEXT,
  optimized_parameters      TEXT,
  optimized_few_shot        TEXT,
  created                   INTEGER NOT NULL,
  deleted                   INTEGER
) STRICT;

-- A label is unique among the live containers of a project, and free again after a delete.
CREATE UNIQUE INDEX containers_label ON containers (project, label) WHERE deleted IS NULL;
CREATE INDEX containers_live ON containers (project, created, id) WHERE deleted IS NULL;

CREATE TABLE container_models (
  id                    INTEGER PRIMARY KEY,
  uid                   TEXT    NOT NULL UNIQUE,
  container             INTEGER NOT NULL REFERENCES containers (id),
  slug                  TEXT    NOT NULL,
  model                 TEXT    NOT NULL,
  default_parameters    TEXT,
  default_system_prompt TEXT,
  created               INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX container_models_slug ON container_models (container, slug);

INSERT INTO cache_versions (name, version) VALUES ('containers', 0);

CREATE TRIGGER containers_inserted AFTER INSERT ON containers BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'containers';
END;
CREATE TRIGGER containers_updated AFTER UPDATE ON containers BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'containers';
END;
CREATE TRIGGER container_models_inserted AFTER INSERT ON container_models BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'containers';
END;
