-- ---------------------------------------------------------------------------------------------------------------
-- Projects
-- ---------------------------------------------------------------------------------------------------------------

-- name: list_projects
-- All projects with what they have, oldest first.
SELECT p.id, p.uid, p.name, p.created, o.uid AS organization_id, o.name AS organization,
       (SELECT COUNT(*) FROM api_keys k WHERE k.project = p.id AND k.revoked IS NULL AND k.disabled = 0) AS keys,
       COALESCE((SELECT SUM(n.completions) FROM completion_counts n WHERE n.project = p.id), 0) AS completions,
       (SELECT COUNT(*) FROM containers c WHERE c.project = p.id) AS containers,
       (SELECT COUNT(*) FROM datasets d WHERE d.project = p.id AND d.state = 'ready') AS datasets,
       (SELECT COUNT(*) FROM files f WHERE f.project = p.id AND f.deleted IS NULL) AS files
  FROM projects p
  JOIN organizations o ON o.id = p.organization
 ORDER BY p.id

-- Deleting: all of these in one write, in this order. The sums of usage stay, for the organization's books.

-- name: disown_project_objects
-- Have the bytes of its files freed by whichever core looks next.
INSERT INTO unowned_objects (uid, touched)
SELECT uid, :now FROM files WHERE project = :project AND deleted IS NULL

-- name: delete_project_files
-- Its files.
DELETE FROM files WHERE project = :project

-- name: delete_project_items
-- What its datasets hold.
DELETE FROM dataset_items WHERE dataset IN (SELECT id FROM datasets WHERE project = :project)

-- name: delete_project_datasets
-- Its datasets.
DELETE FROM datasets WHERE project = :project

-- name: delete_project_evaluators
-- Its evaluators.
DELETE FROM evaluators WHERE project = :project

-- name: delete_project_sub_models
-- The models of its containers.
DELETE FROM container_models WHERE container IN (SELECT id FROM containers WHERE project = :project)

-- name: delete_project_containers
-- Its containers.
DELETE FROM containers WHERE project = :project

-- name: facets_of_project
-- Part of others: the metadata values of its completions.
SELECT x.facet
  FROM completion_facets x
  JOIN completions c ON c.seq = x.seq AND c.created = x.created
 WHERE c.project = :project

-- name: delete_project_facet_counts
-- A facet is of one project only.
DELETE FROM facet_counts WHERE facet IN ({facets_of_project})

-- name: delete_project_facets
-- The metadata values of its completions.
DELETE FROM completion_facets
 WHERE EXISTS (SELECT 1 FROM completions c
                WHERE c.seq = completion_facets.seq AND c.created = completion_facets.created AND c.project = :project)

-- name: delete_project_bodies
-- What was asked and answered.
DELETE FROM completion_bodies
 WHERE EXISTS (SELECT 1 FROM completions c
                WHERE c.seq = completion_bodies.seq AND c.created = completion_bodies.created AND c.project = :project)

-- name: delete_project_attempts
-- The calls of providers.
DELETE FROM attempts WHERE seq IN (SELECT seq FROM completions WHERE project = :project)

-- name: delete_project_completions
-- Its part of the ledger.
DELETE FROM completions WHERE project = :project

-- name: delete_project_counts
-- The totals of its lists.
DELETE FROM completion_counts WHERE project = :project

-- name: delete_project_traces
-- Its traces.
DELETE FROM traces WHERE project = :project

-- name: delete_project_trace_containers
-- Which containers they went through.
DELETE FROM trace_containers WHERE project = :project

-- name: delete_project_trace_counts
-- How many there are.
DELETE FROM trace_counts WHERE project = :project

-- name: delete_project_idempotency_keys
-- What its requests may be repeated under.
DELETE FROM idempotency_keys WHERE project = :project

-- name: delete_project_budgets
-- Its budgets, and those of its keys.
DELETE FROM budgets WHERE project = :project

-- name: delete_project_keys
-- Its keys.
DELETE FROM api_keys WHERE project = :project

-- name: delete_project
-- Itself.
DELETE FROM projects WHERE id = :project RETURNING uid
