-- The index of texts, filled by a core where `[core] text_index` asks for it: every three characters of requests and
-- answers. What it finds are candidates. It keeps the texts itself, so that one can be taken out again.
CREATE VIRTUAL TABLE text_index USING fts5(text, tokenize = 'trigram case_sensitive 1', detail = 'none', columnsize = 0);

-- Completions whose texts are too long for it: candidates of every search.
CREATE TABLE text_index_large (seq INTEGER PRIMARY KEY) STRICT;

-- The position up to which all texts are in one of the two.
CREATE TABLE text_index_state (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  covered INTEGER NOT NULL
) STRICT;
INSERT INTO text_index_state (id, covered) VALUES (1, 0);

-- Whatever deletes a body.
CREATE TRIGGER completion_bodies_text_index AFTER DELETE ON completion_bodies BEGIN
  DELETE FROM text_index WHERE rowid = OLD.seq;
  DELETE FROM text_index_large WHERE seq = OLD.seq;
END;
