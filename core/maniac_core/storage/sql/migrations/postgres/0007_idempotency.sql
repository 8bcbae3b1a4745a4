-- Idempotency keys of chat requests. While a request runs its row is claimed until `expires`, renewed by its core;
-- when it is answered `completion` names the record, and `expires` is the end of the 24 hours. Unix seconds.

CREATE TABLE idempotency_keys (
  project     bigint           NOT NULL,
  key         text COLLATE "C" NOT NULL,
  fingerprint bytea            NOT NULL,
  owner       text COLLATE "C" NOT NULL,
  completion  text,
  expires     bigint           NOT NULL,
  PRIMARY KEY (project, key)
);

CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires);
