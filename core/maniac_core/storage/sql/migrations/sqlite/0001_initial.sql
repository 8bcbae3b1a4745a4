-- Tenancy, API keys, and everything that is captured of a completion.
-- Times are Unix seconds unless a name says otherwise; money is integer nano-USD, NULL where the price is unknown.

CREATE TABLE organizations (
  id      INTEGER PRIMARY KEY,
  uid     TEXT    NOT NULL UNIQUE,
  name    TEXT    NOT NULL UNIQUE,
  created INTEGER NOT NULL
) STRICT;

CREATE TABLE projects (
  id           INTEGER PRIMARY KEY,
  uid          TEXT    NOT NULL UNIQUE,
  organization INTEGER NOT NULL REFERENCES organizations (id),
  name         TEXT    NOT NULL,
  created      INTEGER NOT NULL,
  UNIQUE (organization, name)
) STRICT;

CREATE INDEX projects_name ON projects (name, id);

-- Only hashes of keys are kept: a key is 256 random bits, so a plain SHA-256 cannot be turned back.
CREATE TABLE api_keys (
  id          INTEGER PRIMARY KEY,
  uid         TEXT    NOT NULL UNIQUE,
  project     INTEGER NOT NULL REFERENCES projects (id),
  name        TEXT    NOT NULL,
  prefix      TEXT    NOT NULL,
  secret_hash BLOB    NOT NULL UNIQUE,
  created     INTEGER NOT NULL,
  expires     INTEGER,
  revoked     INTEGER,
  disabled    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX api_keys_project ON api_keys (project, created);
CREATE INDEX api_keys_prefix ON api_keys (prefix);

-- The ledger: one row per request, whatever became of it. seq is its position; bodies lie apart.
-- Without a row id, because SQLite seeks by (created, seq) only if seq is a column like any other.
CREATE TABLE completions (
  seq                    INTEGER NOT NULL PRIMARY KEY,
  id                     TEXT    NOT NULL,
  project                INTEGER NOT NULL,
  organization           INTEGER NOT NULL,
  api_key                INTEGER,
  created                INTEGER NOT NULL,
  request_id             TEXT    NOT NULL,
  status                 TEXT    NOT NULL,
  listed                 INTEGER NOT NULL,
  streamed               INTEGER NOT NULL,
  requested_model        TEXT    NOT NULL,
  model                  TEXT,
  provider               TEXT,
  model_id               TEXT,
  container              INTEGER,
  container_label        TEXT,
  finish_reason          TEXT,
  error_reason           TEXT,
  error_message          TEXT,
  input_tokens           INTEGER NOT NULL,
  cache_read_tokens      INTEGER NOT NULL,
  cache_write_tokens     INTEGER NOT NULL,
  cache_write_1h_tokens  INTEGER NOT NULL,
  output_tokens          INTEGER NOT NULL,
  reasoning_tokens       INTEGER NOT NULL,
  input_audio_tokens     INTEGER,
  output_audio_tokens    INTEGER,
  cost_nano_usd          INTEGER,
  service_tier           TEXT,
  usage_source           TEXT    NOT NULL,
  spend_nano_usd         INTEGER,
  time_to_first_token_us INTEGER,
  latency_us             INTEGER NOT NULL,
  tags                   TEXT,
  metadata               TEXT,
  trace_id               TEXT,
  span_id                TEXT,
  parent_span_id         TEXT,
  trace_name             TEXT,
  trace_source           TEXT,
  trace_metadata         TEXT,
  content_hash           BLOB,
  UNIQUE (project, id)
) STRICT, WITHOUT ROWID;

-- Lists seek by (created, seq). listed is a column of them so that a page is found without reading the rows.
CREATE INDEX completions_listed ON completions (project, listed, created, seq) WHERE listed = 1;
CREATE INDEX completions_model ON completions (project, model, listed, created, seq) WHERE listed = 1;
CREATE INDEX completions_container ON completions (project, container, listed, created, seq)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completions_container_model ON completions (project, container, model, listed, created, seq)
  WHERE listed = 1 AND container IS NOT NULL;
CREATE INDEX completions_trace ON completions (project, trace_id, created, seq) WHERE trace_id IS NOT NULL;

-- The answer stands first: lists read it, and must not walk over long requests to reach it.
CREATE TABLE completion_bodies (
  seq     INTEGER PRIMARY KEY,
  created INTEGER NOT NULL,
  output  BLOB,
  route   BLOB,
  input   BLOB
) STRICT;

CREATE TABLE attempts (
  seq                    INTEGER NOT NULL,
  number                 INTEGER NOT NULL,
  provider               TEXT    NOT NULL,
  model                  TEXT    NOT NULL,
  started_us             INTEGER NOT NULL,
  latency_us             INTEGER NOT NULL,
  time_to_first_token_us INTEGER,
  outcome                TEXT    NOT NULL,
  http_status            INTEGER,
  error_reason           TEXT,
  error_message          TEXT,
  input_tokens           INTEGER,
  cache_read_tokens      INTEGER,
  cache_write_tokens     INTEGER,
  cache_write_1h_tokens  INTEGER,
  output_tokens          INTEGER,
  reasoning_tokens       INTEGER,
  input_audio_tokens     INTEGER,
  output_audio_tokens    INTEGER,
  cost_nano_usd          INTEGER,
  service_tier           TEXT,
  spend_nano_usd         INTEGER,
  PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

-- One row per metadata value of a listed completion; facet is a hash of project, key and value.
CREATE TABLE completion_facets (
  facet   BLOB    NOT NULL,
  created INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  PRIMARY KEY (facet, created, seq)
) STRICT, WITHOUT ROWID;

-- How many listed completions there are; model '' and container 0 stand for none.
CREATE TABLE completion_counts (
  project     INTEGER NOT NULL,
  model       TEXT    NOT NULL,
  container   INTEGER NOT NULL,
  completions INTEGER NOT NULL,
  PRIMARY KEY (project, model, container)
) STRICT, WITHOUT ROWID;

-- The same for each metadata value.
CREATE TABLE facet_counts (
  facet       BLOB    NOT NULL,
  model       TEXT    NOT NULL,
  container   INTEGER NOT NULL,
  completions INTEGER NOT NULL,
  PRIMARY KEY (facet, model, container)
) STRICT, WITHOUT ROWID;

-- All requests, stored or not, summed per day (days since 1970-01-01 UTC). 0 and '' stand for none.
-- spend_nano_usd sums the known prices; unpriced counts the requests without one.
CREATE TABLE usage_daily (
  day                   INTEGER NOT NULL,
  organization          INTEGER NOT NULL,
  project               INTEGER NOT NULL,
  api_key               INTEGER NOT NULL,
  model                 TEXT    NOT NULL,
  provider              TEXT    NOT NULL,
  container             INTEGER NOT NULL,
  status                TEXT    NOT NULL,
  requests              INTEGER NOT NULL,
  input_tokens          INTEGER NOT NULL,
  cache_read_tokens     INTEGER NOT NULL,
  cache_write_tokens    INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  output_tokens         INTEGER NOT NULL,
  reasoning_tokens      INTEGER NOT NULL,
  spend_nano_usd        INTEGER NOT NULL,
  unpriced              INTEGER NOT NULL,
  PRIMARY KEY (organization, day, project, api_key, model, provider, container, status)
) STRICT, WITHOUT ROWID;

-- One row per external trace, stored or not; name and source are the last that were given.
CREATE TABLE traces (
  project        INTEGER NOT NULL,
  id             TEXT    NOT NULL,
  name           TEXT,
  source         TEXT,
  first_seen     INTEGER NOT NULL,
  last_seen      INTEGER NOT NULL,
  requests       INTEGER NOT NULL,
  successes      INTEGER NOT NULL,
  errors         INTEGER NOT NULL,
  spend_nano_usd INTEGER NOT NULL,
  unpriced       INTEGER NOT NULL,
  PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX traces_first_seen ON traces (project, first_seen, id);

CREATE TABLE trace_containers (
  project   INTEGER NOT NULL,
  trace     TEXT    NOT NULL,
  container INTEGER NOT NULL,
  PRIMARY KEY (project, trace, container)
) STRICT, WITHOUT ROWID;

-- A version per table that processes keep in memory; triggers move it, every process watches it.
CREATE TABLE cache_versions (
  name    TEXT    NOT NULL PRIMARY KEY,
  version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO cache_versions (name, version) VALUES ('organizations', 0), ('projects', 0), ('api_keys', 0);

CREATE TRIGGER organizations_inserted AFTER INSERT ON organizations BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'organizations';
END;
CREATE TRIGGER organizations_updated AFTER UPDATE ON organizations BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'organizations';
END;
CREATE TRIGGER organizations_deleted AFTER DELETE ON organizations BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'organizations';
END;

CREATE TRIGGER projects_inserted AFTER INSERT ON projects BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'projects';
END;
CREATE TRIGGER projects_updated AFTER UPDATE ON projects BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'projects';
END;
CREATE TRIGGER projects_deleted AFTER DELETE ON projects BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'projects';
END;

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'api_keys';
END;
CREATE TRIGGER api_keys_updated AFTER UPDATE ON api_keys BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'api_keys';
END;
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
  UPDATE cache_versions SET version = version + 1 WHERE name = 'api_keys';
END;
