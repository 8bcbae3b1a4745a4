-- Files: their bytes lie in the object store under their uid.

CREATE TABLE files (
  id         INTEGER PRIMARY KEY,
  uid        TEXT    NOT NULL UNIQUE,
  project    INTEGER NOT NULL REFERENCES projects (id),
  filename   BLOB    NOT NULL,  -- UTF-8; any characters, also those that text columns refuse
  purpose    TEXT    NOT NULL,
  size_bytes INTEGER NOT NULL,
  sha256     TEXT    NOT NULL,
  created    INTEGER NOT NULL,
  deleted    INTEGER
) STRICT;

CREATE INDEX files_live ON files (project, created, id) WHERE deleted IS NULL;
CREATE INDEX files_purpose ON files (project, purpose, created, id) WHERE deleted IS NULL;

-- Objects that may exist and that no live file owns: of uploads under way, and of deleted files. Whoever still uses
-- one says so by `touched`; what nobody has touched for a while is condemned (-1), and then deleted.
CREATE TABLE unowned_objects (
  uid     TEXT    PRIMARY KEY,
  touched INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX unowned_objects_touched ON unowned_objects (touched);
