-- Here the index is the server's own, on both columns, and always up to date.

-- name: text_index_covered
-- The position up to which texts are in the index; 0: there is none.
SELECT CASE WHEN to_regclass('completion_bodies_input_text') IS NULL THEN 0
            ELSE (SELECT COALESCE(MAX(seq), 0) FROM completions) END AS covered

-- name: find_text_candidates
-- Completions, of all projects, that may hold the texts looked for.
SELECT b.seq FROM completion_bodies b
 WHERE 1 = 1 -- and filters
 LIMIT :limit

-- name: match_candidates
-- Those of some completions that fit all filters.
SELECT c.seq, c.created
{listed_with_bodies}
   AND c.seq IN (SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(CAST(:seqs AS text) AS json)))
   AND 1 = 1 -- and filters
