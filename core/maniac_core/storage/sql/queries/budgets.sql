-- ---------------------------------------------------------------------------------------------------------------
-- Budgets
-- ---------------------------------------------------------------------------------------------------------------

-- name: budget_start
-- Part of others: the beginning of the running period of `budgets b`.
CASE b.period WHEN 'day' THEN CAST(:day AS BIGINT) WHEN 'month' THEN CAST(:month AS BIGINT) ELSE 0 END

-- name: budget_spent_before
-- Part of others: what the daily sums have of the running period of `budgets b`. Requests without a key of their own
-- are internal, and registered ones were paid elsewhere.
COALESCE((
    SELECT SUM(u.spend_nano_usd) FROM usage_daily u
     WHERE u.organization = b.organization
       AND u.day >= ({budget_start}) / 86400
       AND (b.project = 0 OR u.project = b.project)
       AND (b.api_key = 0 OR u.api_key = b.api_key)
       AND u.api_key <> 0 AND u.status <> 'registered'), 0)

-- name: budget_reserved
-- Part of others: what is reserved of the running period of `budgets b`. What nobody renews counts as well: its core
-- may be gone, and its request may have been paid for, or it was held up and comes back.
COALESCE((
    SELECT SUM(r.amount_nano_usd) FROM budget_reservations r
     WHERE r.budget = b.id AND r.start = {budget_start}), 0)

-- name: budget_unknown
-- Part of others: how much of that nobody renews.
COALESCE((
    SELECT SUM(r.amount_nano_usd) FROM budget_reservations r
     WHERE r.budget = b.id AND r.start = {budget_start} AND r.expires <= {lease_now}), 0)

-- name: budgets_of_caller
-- Part of others: the budgets that a key spends from.
b.organization = :organization AND b.project IN (0, :project) AND b.api_key IN (0, :key)

-- name: take_budget_turn
-- Let nobody else reserve for an organization until this transaction ends.
INSERT INTO budget_turns (organization, turn) VALUES (:organization, 1)
ON CONFLICT (organization) DO UPDATE SET turn = budget_turns.turn + 1

-- name: open_budget_windows
-- Begin the running periods of a key's budgets where none was begun, with what was already spent in them.
INSERT INTO budget_windows (budget, start, spent_nano_usd)
SELECT b.id, {budget_start}, {budget_spent_before}
  FROM budgets b
 WHERE {budgets_of_caller}
   AND NOT EXISTS (SELECT 1 FROM budget_windows w WHERE w.budget = b.id AND w.start = {budget_start})
ON CONFLICT (budget, start) DO NOTHING

-- name: short_budgets
-- Part of others: the budgets of a key that have less room than is wanted.
SELECT 1 FROM budgets b
  JOIN budget_windows w ON w.budget = b.id AND w.start = {budget_start}
 WHERE {budgets_of_caller}
   AND w.spent_nano_usd + {budget_reserved} + CAST(:room AS BIGINT) > b.limit_nano_usd

-- name: check_budgets
-- The budgets of a key with their running periods, and whether an amount does not fit into them.
SELECT b.id AS budget, {budget_start} AS start, b.project, b.api_key, b.period,
       COALESCE(w.spent_nano_usd, 0) + {budget_reserved} + CAST(:amount AS BIGINT) > b.limit_nano_usd AS is_short
  FROM budgets b
  LEFT JOIN budget_windows w ON w.budget = b.id AND w.start = {budget_start}
 WHERE {budgets_of_caller}

-- name: reserve_budgets
-- Reserve an amount from all budgets of a key if each of them has the room that is wanted, else from none.
INSERT INTO budget_reservations (
  id, budget, start, amount_nano_usd, expires, holder, ahead, project, api_key, created
)
SELECT CAST(:id AS TEXT), b.id, {budget_start}, CAST(:amount AS BIGINT), {lease_now} + CAST(:lease_s AS BIGINT),
       CAST(:holder AS TEXT), CAST(:ahead AS BIGINT), CAST(:project AS BIGINT), CAST(:key AS BIGINT), {lease_now}
  FROM budgets b
 WHERE {budgets_of_caller}
   AND NOT EXISTS (
{short_budgets}
   )
RETURNING budget, start

-- name: renew_reservation
-- Say that what a request has reserved is still held, also after that seemed to be over.
UPDATE budget_reservations SET expires = {lease_now} + CAST(:lease_s AS BIGINT) WHERE id = :id

-- name: release_reservation
-- Give back what a request had reserved that will have no record.
DELETE FROM budget_reservations WHERE id = :id

-- name: give_back_part
-- Give back what one request had of a reservation for several.
UPDATE budget_reservations SET amount_nano_usd = amount_nano_usd - CAST(:amount AS BIGINT) WHERE id = :id

-- name: give_back_rest
-- Give back what is unused of a reservation for several requests, once, however often it is tried.
UPDATE budget_reservations SET amount_nano_usd = amount_nano_usd - CAST(:amount AS BIGINT), ahead = 0
 WHERE id = :id AND ahead = 1

-- name: sweep_reservations
-- Remove what is used up and renewed by nobody.
DELETE FROM budget_reservations WHERE expires <= {lease_now} AND amount_nano_usd <= 0

-- name: release_holder
-- Give back all that is left of what a process held that has ended.
DELETE FROM budget_reservations WHERE holder = :holder

-- name: set_budget
-- Make a budget, or change its limit.
INSERT INTO budgets (organization, project, api_key, period, limit_nano_usd, created)
VALUES (:organization, :project, :api_key, :period, :limit, :created)
ON CONFLICT (organization, project, api_key, period) DO UPDATE SET limit_nano_usd = excluded.limit_nano_usd

-- name: add_key_budget
-- Make a budget of the key of that id.
INSERT INTO budgets (organization, project, api_key, period, limit_nano_usd, created)
SELECT p.organization, p.id, k.id, CAST(:period AS TEXT), CAST(:limit AS BIGINT), CAST(:created AS BIGINT)
  FROM api_keys k
  JOIN projects p ON p.id = k.project
 WHERE k.uid = :uid

-- name: remove_budget_reservations
-- Remove what is reserved of a budget that is about to be removed.
DELETE FROM budget_reservations
 WHERE budget IN (SELECT id FROM budgets
                   WHERE organization = :organization AND project = :project AND api_key = :api_key
                     AND period = :period)

-- name: remove_budget_windows
-- Remove the periods of a budget that is about to be removed.
DELETE FROM budget_windows
 WHERE budget IN (SELECT id FROM budgets
                   WHERE organization = :organization AND project = :project AND api_key = :api_key
                     AND period = :period)

-- name: remove_budget
-- Remove a budget; its row comes back if there was one.
DELETE FROM budgets
 WHERE organization = :organization AND project = :project AND api_key = :api_key AND period = :period
RETURNING id

-- name: list_budgets
-- All budgets with their running periods: organizations, projects and keys by name.
SELECT b.period, b.limit_nano_usd, {budget_start} AS start,
       COALESCE(w.spent_nano_usd, {budget_spent_before}) AS spent_nano_usd, {budget_reserved} AS reserved_nano_usd,
       {budget_unknown} AS unknown_nano_usd,
       o.name AS organization, p.name AS project, k.uid AS key_id, k.name AS key_name, k.prefix AS key_prefix
  FROM budgets b
  JOIN organizations o ON o.id = b.organization
  LEFT JOIN projects p ON p.id = b.project
  LEFT JOIN api_keys k ON k.id = b.api_key
  LEFT JOIN budget_windows w ON w.budget = b.id AND w.start = {budget_start}
 ORDER BY o.name, p.name, b.project, k.name, b.api_key, b.period

-- name: find_organizations
-- The organizations of that id or name, as owners of budgets.
SELECT id AS organization, 0 AS project, 0 AS api_key FROM organizations WHERE uid = :name OR name = :name

-- name: find_projects
-- The projects of that id or name, as owners of budgets.
SELECT organization, id AS project, 0 AS api_key FROM projects WHERE uid = :name OR name = :name

-- name: find_budget_keys
-- The keys of that id or prefix, as owners of budgets.
SELECT p.organization, p.id AS project, k.id AS api_key
  FROM api_keys k
  JOIN projects p ON p.id = k.project
 WHERE k.uid = :name OR k.prefix = :name
