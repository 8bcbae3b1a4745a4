-- ---------------------------------------------------------------------------------------------------------------
-- Audit log
-- ---------------------------------------------------------------------------------------------------------------

-- name: add_audit_event
-- Enter a change, in its own transaction.
INSERT INTO audit_events (time, actor, api_key, actor_name, action, resource, project, details)
VALUES (:time, :actor, :api_key, :actor_name, :action, :resource, :project, :details)

-- name: add_audit_event_of_key
-- Enter a change of the key of that id, or of the only one of that prefix.
INSERT INTO audit_events (time, actor, api_key, actor_name, action, resource, project, details)
SELECT CAST(:time AS BIGINT), CAST(:actor AS TEXT), CAST(:api_key AS BIGINT), CAST(:actor_name AS TEXT),
       CAST(:action AS TEXT), k.uid, k.project, CAST(:details AS TEXT)
  FROM api_keys k
 WHERE k.uid = :resource
    OR (k.prefix = :resource AND (SELECT COUNT(*) FROM api_keys o WHERE o.prefix = :resource) = 1)

-- name: add_audit_event_of_budget
-- Enter a change of a budget, if there is one; it is called by what it belongs to.
INSERT INTO audit_events (time, actor, api_key, actor_name, action, resource, project, details)
SELECT CAST(:time AS BIGINT), CAST(:actor AS TEXT), CAST(:by AS BIGINT), CAST(:actor_name AS TEXT),
       CAST(:action AS TEXT),
       COALESCE('key ' || k.uid, 'project ' || p.name, 'organization ' || o.name), p.id, CAST(:details AS TEXT)
  FROM budgets b
  JOIN organizations o ON o.id = b.organization
  LEFT JOIN projects p ON p.id = b.project
  LEFT JOIN api_keys k ON k.id = b.api_key
 WHERE b.organization = :organization AND b.project = :project AND b.api_key = :api_key AND b.period = :period

-- name: audit_rows
-- Part of others: entries with the names of whom and what they tell of.
SELECT a.id, a.time, a.actor, a.actor_name, a.action, a.resource, a.details,
       k.name AS key_name, k.prefix AS key_prefix, p.name AS project_name
  FROM audit_events a
  LEFT JOIN api_keys k ON k.id = a.api_key
  LEFT JOIN projects p ON p.id = a.project

-- name: list_audit_events
-- The newest entries, or those before one.
{audit_rows}
 WHERE (CAST(:before AS BIGINT) IS NULL OR a.id < :before)
 ORDER BY a.id DESC
 LIMIT :limit

-- name: latest_audit_event
-- The newest entry of a kind.
{audit_rows}
 WHERE a.action = :action
 ORDER BY a.id DESC
 LIMIT 1
