-- ---------------------------------------------------------------------------------------------------------------
-- Deleting a completion: as captures, a deletion adds to the sums by rows of its own.
-- ---------------------------------------------------------------------------------------------------------------

-- name: uncount_completion
-- Take it out of the totals of lists.
INSERT INTO completion_counts_deltas (project, model, container, completions)
SELECT c.project, COALESCE(c.model, ''), COALESCE(c.container, 0), -1
{of_deletable}

-- name: uncount_facets
-- Take it out of the totals of lists by metadata.
INSERT INTO facet_counts_deltas (facet, model, container, completions)
{deleted_facet_counts}

-- name: forget_attempts
-- Delete what providers said, who may have quoted the prompt.
UPDATE attempts SET error_message = NULL
 WHERE seq = :seq AND created = :created AND EXISTS (SELECT 1 {of_deletable})
