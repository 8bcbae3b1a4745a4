-- ---------------------------------------------------------------------------------------------------------------
-- Registering and exporting completions
-- ---------------------------------------------------------------------------------------------------------------

-- name: find_known_ids
-- Those of some ids that the project has a record of, listed or not.
SELECT id FROM completions
 WHERE project = :project AND id IN (NULL
       , :ids_{n} -- each ids
       )

-- name: find_inputs
-- The requests of some completions.
SELECT c.id, {input_columns}
  FROM completions c
  LEFT JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
 WHERE c.project = :project AND c.id IN (NULL
       , :ids_{n} -- each ids
       )
