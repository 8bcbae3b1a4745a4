-- Values that all cores of an install share and nobody else may know, made when they are first needed.

CREATE TABLE secrets (
  name  text COLLATE "C" NOT NULL PRIMARY KEY,
  value bytea NOT NULL
);
