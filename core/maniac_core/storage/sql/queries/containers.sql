-- ---------------------------------------------------------------------------------------------------------------
-- Containers
-- ---------------------------------------------------------------------------------------------------------------

-- name: container_columns
-- A container with the ids of its project and organization.
SELECT c.*, p.uid AS project_id, o.uid AS organization_id
  FROM containers c
  JOIN projects p ON p.id = c.project
  JOIN organizations o ON o.id = p.organization

-- name: add_container
-- Make a container; the partial unique index refuses a second live one of that label.
INSERT INTO containers (uid, project, label, api, initial_model, default_system_prompt, default_parameters,
                        default_few_shot, system_prompt_prefix, optimized_system_prompt, optimized_parameters,
                        optimized_few_shot, created)
VALUES (:uid, :project, :label, :api, :initial_model, :default_system_prompt, :default_parameters,
        :default_few_shot, :system_prompt_prefix, :optimized_system_prompt, :optimized_parameters,
        :optimized_few_shot, :created)

-- name: find_container_by_label
-- A live container by its label.
{container_columns}
 WHERE c.project = :project AND c.label = :label AND c.deleted IS NULL

-- name: find_container_by_uid
-- A container by its id, deleted or not.
{container_columns}
 WHERE c.uid = :uid AND c.project = :project

-- name: list_containers
-- A page of the live containers, newest first, from a position on.
{container_columns}
 WHERE c.project = :project AND c.deleted IS NULL AND (c.created, c.id) < (:created, :id)
 ORDER BY c.created DESC, c.id DESC
 LIMIT :limit OFFSET :skip

-- name: count_containers
-- How many live containers a project has.
SELECT count(*) AS total FROM containers WHERE project = :project AND deleted IS NULL

-- name: update_container
-- Replace some fields of a live container; the others stay as they are by then.
UPDATE containers
   SET default_model = CASE WHEN :sets_default_model THEN :default_model ELSE default_model END,
       best_model_id = CASE WHEN :sets_default_model THEN :best_model_id ELSE best_model_id END,
       default_system_prompt =
           CASE WHEN :sets_default_system_prompt THEN :default_system_prompt ELSE default_system_prompt END,
       default_parameters = CASE WHEN :sets_default_parameters THEN :default_parameters ELSE default_parameters END,
       default_few_shot = CASE WHEN :sets_default_few_shot_messages THEN :default_few_shot ELSE default_few_shot END,
       system_prompt_prefix =
           CASE WHEN :sets_system_prompt_prefix THEN :system_prompt_prefix ELSE system_prompt_prefix END,
       optimized_system_prompt =
           CASE WHEN :sets_optimized_system_prompt THEN :optimized_system_prompt ELSE optimized_system_prompt END,
       optimized_parameters =
           CASE WHEN :sets_optimized_parameters THEN :optimized_parameters ELSE optimized_parameters END,
       optimized_few_shot =
           CASE WHEN :sets_optimized_few_shot_messages THEN :optimized_few_shot ELSE optimized_few_shot END
 WHERE uid = :uid AND project = :project AND deleted IS NULL

-- name: delete_container
-- Delete a live container softly.
UPDATE containers SET deleted = :deleted WHERE uid = :uid AND project = :project AND deleted IS NULL

-- name: add_container_model
-- Attach a model; the unique index refuses a second one of that slug.
INSERT INTO container_models (uid, container, slug, model, default_parameters, default_system_prompt, created)
VALUES (:uid, :container, :slug, :model, :default_parameters, :default_system_prompt, :created)

-- name: list_container_models
-- The models attached to a container, oldest first.
SELECT * FROM container_models WHERE container = :container ORDER BY created, id

-- name: list_project_models
-- The models attached to the live containers of a project.
SELECT m.*, c.label
  FROM container_models m
  JOIN containers c ON c.id = m.container
 WHERE c.project = :project AND c.deleted IS NULL
 ORDER BY c.label, m.slug
