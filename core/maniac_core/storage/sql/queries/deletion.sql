-- ---------------------------------------------------------------------------------------------------------------
-- Deleting a completion: all of these in one write. What is left is what `store: false` leaves, and `deleted`.
-- ---------------------------------------------------------------------------------------------------------------

-- name: find_deletable
-- A listed completion, with what its counts are kept by.
SELECT c.seq, c.created, c.metadata,
       (SELECT MIN(d.name) FROM dataset_items i JOIN datasets d ON d.id = i.dataset
         WHERE i.seq = c.seq AND d.state = 'ready') AS dataset
  {completions_by_id}
 WHERE c.project = :project AND c.id = :id AND c.listed = 1

-- name: of_deletable
-- Part of others: the ledger's row, if it is still listed and no dataset has taken it.
  FROM completions c
 WHERE c.seq = :seq AND c.created = :created AND c.listed = 1
   AND NOT EXISTS (SELECT 1 FROM dataset_items i JOIN datasets d ON d.id = i.dataset
                    WHERE i.seq = c.seq AND d.state <> 'discarded')

-- name: uncount_completion
-- Take it out of the totals of lists.
INSERT INTO completion_counts (project, model, container, completions)
SELECT c.project, COALESCE(c.model, ''), COALESCE(c.container, 0), -1
{of_deletable}
ON CONFLICT (project, model, container)
DO UPDATE SET completions = completion_counts.completions + excluded.completions

-- name: deleted_facet_counts
-- Part of others: what goes from the totals of lists by metadata.
SELECT x.facet, COALESCE(c.model, ''), COALESCE(c.container, 0), -1
  FROM completion_facets x
  JOIN (SELECT c.*
{of_deletable}
  ) c ON c.seq = x.seq AND c.created = x.created
 WHERE x.seq = :seq AND x.created = :created AND x.facet IN (NULL
       , :facets_{n} -- each facets
       )

-- name: uncount_facets
-- Take it out of the totals of lists by metadata.
INSERT INTO facet_counts (facet, model, container, completions)
{deleted_facet_counts}
ON CONFLICT (facet, model, container)
DO UPDATE SET completions = facet_counts.completions + excluded.completions

-- name: delete_facets
-- Delete its metadata values.
DELETE FROM completion_facets
 WHERE seq = :seq AND created = :created AND EXISTS (SELECT 1 {of_deletable}) AND facet IN (NULL
       , :facets_{n} -- each facets
       )

-- name: delete_body
-- Delete what was asked and answered.
DELETE FROM completion_bodies
 WHERE seq = :seq AND created = :created AND EXISTS (SELECT 1 {of_deletable})

-- name: forget_attempts
-- Delete what providers said, who may have quoted the prompt.
UPDATE attempts SET error_message = NULL
 WHERE seq = :seq AND EXISTS (SELECT 1 {of_deletable})

-- name: forget_completion
-- Leave numbers only in the ledger, out of every list.
UPDATE completions
   SET listed = 0, deleted = :now, tags = NULL, metadata = NULL, error_message = NULL, trace_name = NULL,
       trace_source = NULL, trace_metadata = NULL, content_hash = NULL
 WHERE seq = :seq AND created = :created AND EXISTS (SELECT 1 {of_deletable})
RETURNING id
