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
-- Replace some fields, the others stay as they are by then; the unique index refuses the name of another.
UPDATE evaluators
   SET name = CASE WHEN :sets_name THEN :name ELSE name END,
       description = CASE WHEN :sets_description THEN :description ELSE description END,
       container = CASE WHEN :sets_container THEN :container ELSE container END,
       mode = CASE WHEN :sets_mode THEN :mode ELSE mode END,
       api = CASE WHEN :sets_api THEN :api ELSE api END,
       pass_threshold = CASE WHEN :sets_pass_threshold THEN :pass_threshold ELSE pass_threshold END,
       metadata = CASE WHEN :sets_metadata THEN :metadata ELSE metadata END,
       model = CASE WHEN :sets_model THEN :model ELSE model END,
       prompt = CASE WHEN :sets_prompt THEN :prompt ELSE prompt END,
       inference_parameters =
           CASE WHEN :sets_inference_parameters THEN :inference_parameters ELSE inference_parameters END,
       source = CASE WHEN :sets_source THEN :source ELSE source END,
       requirements = CASE WHEN :sets_requirements THEN :requirements ELSE requirements END
 WHERE uid = :uid AND project = :project

-- name: delete_evaluator
-- Delete an evaluator.
DELETE FROM evaluators WHERE uid = :uid AND project = :project
