-- What a key may do, and who changed what.

-- Names with commas between them, in alphabetical order. A key from before may do all but administer.
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT 'inference,read,write';

-- One row per change of keys, budgets or configuration, and per deletion. Rows are never changed.
CREATE TABLE audit_events (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  time       INTEGER NOT NULL,
  actor      TEXT    NOT NULL,
  api_key    INTEGER,
  actor_name TEXT    NOT NULL,
  action     TEXT    NOT NULL,
  resource   TEXT    NOT NULL,
  project    INTEGER,
  details    TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_events_action ON audit_events (action, id);
