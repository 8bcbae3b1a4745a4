-- ---------------------------------------------------------------------------------------------------------------
-- Bodies, as they lie in the database
-- ---------------------------------------------------------------------------------------------------------------

-- name: list_bodies
-- Bodies with the ids of their completions, from a position on.
SELECT b.seq, b.created, c.id, b.input, b.output, b.route
  FROM completion_bodies b
  JOIN completions c ON c.seq = b.seq AND c.created = b.created
 WHERE b.seq > :after
 ORDER BY b.seq
 LIMIT :limit

-- name: replace_body
-- Put the same body in another form, if it is still there.
UPDATE completion_bodies SET input = :input, output = :output, route = :route
 WHERE seq = :seq AND created = :created
