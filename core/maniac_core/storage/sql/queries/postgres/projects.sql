-- ---------------------------------------------------------------------------------------------------------------
-- Deleting a project: sums are views of what is folded and what is not yet, and ids are kept apart from the ledger.
-- ---------------------------------------------------------------------------------------------------------------

-- name: delete_project_facet_counts
-- A facet is of one project only.
WITH gone AS (DELETE FROM facet_counts_folded WHERE facet IN ({facets_of_project}))
DELETE FROM facet_counts_deltas WHERE facet IN ({facets_of_project})

-- name: delete_project_completions
-- Its part of the ledger.
WITH gone AS (DELETE FROM completion_ids WHERE project = :project RETURNING seq, created)
DELETE FROM completions c USING gone WHERE c.seq = gone.seq AND c.created = gone.created

-- name: delete_project_counts
-- The totals of its lists.
WITH gone AS (DELETE FROM completion_counts_folded WHERE project = :project)
DELETE FROM completion_counts_deltas WHERE project = :project

-- name: delete_project_trace_counts
-- How many there are.
WITH gone AS (DELETE FROM trace_counts_folded WHERE project = :project)
DELETE FROM trace_counts_deltas WHERE project = :project
