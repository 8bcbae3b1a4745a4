-- Idempotency keys of chat requests. While a request runs its row is claimed until `expires`, renewed by its core;
-- when it is answered `completion` names the record, and `expires` is the end of the 24 hours. Unix seconds.

CREATE TABLE idempotency_keys (
  project     INTEGER NOT NULL,
  key         TEXT    NOT NULL,
  fingerprint BLOB    NOT NULL,
  owner       TEXT    NOT NULL,
  completion  TEXT,
  expires     INTEGER NOT NULL,
  PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires);
