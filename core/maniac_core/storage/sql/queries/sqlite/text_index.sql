-- The table `text_index` is filled behind the captures, a few completions at a time.

-- name: text_index_covered
-- The position up to which texts are in the index; 0: there is none.
SELECT covered FROM text_index_state

-- name: find_texts_to_index
-- The position of the last of the next few completions whose texts are not in it.
SELECT MAX(t.seq) AS last
  FROM (SELECT b.seq FROM completion_bodies b WHERE b.seq > :covered AND b.seq <= :settled ORDER BY b.seq LIMIT :limit) t

-- name: index_texts
-- Put texts into the index, unless another core has. No tokenizer reads past U+0000.
INSERT INTO text_index (rowid, text)
SELECT b.seq, REPLACE(COALESCE(input_text(b.input), '') || CHAR(10) || COALESCE(output_text(b.output), ''),
                      CHAR(0), CHAR(65533))
  FROM completion_bodies b
 WHERE b.seq > :covered AND b.seq <= :last
   AND COALESCE(LENGTH(b.input), 0) + COALESCE(LENGTH(b.output), 0) <= :largest
   AND EXISTS (SELECT 1 FROM text_index_state WHERE covered = :covered)

-- name: note_large_texts
-- Note those that are too long for it.
INSERT INTO text_index_large (seq)
SELECT b.seq
  FROM completion_bodies b
 WHERE b.seq > :covered AND b.seq <= :last
   AND COALESCE(LENGTH(b.input), 0) + COALESCE(LENGTH(b.output), 0) > :largest
   AND EXISTS (SELECT 1 FROM text_index_state WHERE covered = :covered)

-- name: move_text_index
-- Say how far it has come.
UPDATE text_index_state SET covered = :last WHERE covered = :covered

-- name: set_text_index
-- Give the index one of its own commands.
INSERT INTO text_index (text_index, rank) VALUES (:name, :value)

-- name: find_text_candidates
-- Completions, of all projects, that may hold the texts looked for.
SELECT t.rowid AS seq FROM text_index t
 WHERE 1 = 1 -- and filters
UNION ALL
SELECT l.seq FROM text_index_large l
 LIMIT :limit

-- name: match_candidates
-- Those of some completions that fit all filters.
SELECT c.seq, c.created
{listed_with_bodies}
   AND c.seq IN (SELECT value FROM JSON_EACH(:seqs))
   AND 1 = 1 -- and filters
