-- ---------------------------------------------------------------------------------------------------------------
-- Searching texts by an index, of which each engine has its own
-- ---------------------------------------------------------------------------------------------------------------

-- name: listed_with_bodies
-- Part of others: completions of a container with their bodies.
  FROM completions c
  JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
 WHERE +c.listed = 1 AND +c.project = :project AND +c.container = :container
   AND c.seq <= :last_seq AND c.content_hash IS NOT NULL

-- name: match_recent
-- Completions after a position that fit all filters.
SELECT c.seq, c.created
{listed_with_bodies}
   AND c.seq > :covered
   AND 1 = 1 -- and filters
