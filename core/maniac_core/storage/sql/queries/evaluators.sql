-- ---------------------------------------------------------------------------------------------------------------
-- Evaluators
-- ---------------------------------------------------------------------------------------------------------------

-- name: evaluator_rows
-- Evaluators with the ids of their project and container.
SELECT e.*, p.uid AS project_id, c.uid AS container_id, c.label AS container_label
  FROM evaluators e
  JOIN projects p ON p.id = e.project
  LEFT JOIN containers c ON c.id = e.container

-- name: add_evaluator
-- Make an evaluator; the unique index refuses a second one of that name.
INSERT INTO evaluators (uid, project, name, description, container, mode, api, pass_threshold, metadata, kind, model,
                        prompt, inference_parameters, source, requirements, created)
VALUES (:uid, :project, :name, :description, :container, :mode, :api, :pass_threshold, :metadata, :kind, :model,
        :prompt, :inference_parameters, :source, :requirements, :created)

-- name: find_evaluator
-- The evaluator of that id or name; an id wins over a name.
{evaluator_rows}
 WHERE e.project = :project AND (e.uid = :evaluator OR e.name = :evaluator)
 ORDER BY CASE WHEN e.uid = :evaluator THEN 0 ELSE 1 END
 LIMIT 1

-- name: list_evaluators
-- A page of a project's evaluators, newest first, from a position on.
{evaluator_rows}
 WHERE e.project = :project AND (e.created, e.id) < (:created, :id)
 ORDER BY e.created DESC, e.id DESC
 LIMIT :limit OFFSET :skip

-- name: list_evaluators_of_container
-- The same for a container.
{evaluator_rows}
 WHERE e.project = :project AND e.container = :container AND (e.created, e.id) < (:created, :id)
 ORDER BY e.created DESC, e.id DESC
 LIMIT :limit OFFSET :skip

-- name: count_evaluators
-- How many evaluators a project has.
SELECT COUNT(*) AS total FROM evaluators WHERE project = :project

-- name: count_evaluators_of_container
-- How many evaluators a container has.
SELECT COUNT(*) AS total FROM evaluators WHERE project = :project AND container = :container

-- name: update_evaluator
-- Replace what may change; the unique index refuses the name of another.
UPDATE evaluators
   SET name = :name, description = :description, container = :container, mode = :mode, api = :api,
       pass_threshold = :pass_threshold, metadata = :metadata, model = :model, prompt = :prompt,
       inference_parameters = :inference_parameters, source = :source, requirements = :requirements
 WHERE uid = :uid AND project = :project

-- name: delete_evaluator
-- Delete an evaluator.
DELETE FROM evaluators WHERE uid = :uid AND project = :project
