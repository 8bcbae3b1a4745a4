-- Every statement of the storage layer. `queries.py` says how this file is read. PostgreSQL keeps completions, bodies,
-- attempts and facets by time, so joins of them name `created` besides `seq`.
-- Statements with `?` are executed for many rows at once; their order of columns is that of `capture_rows.py`.

-- ---------------------------------------------------------------------------------------------------------------
-- Leases
-- ---------------------------------------------------------------------------------------------------------------

-- name: lease_now
-- Part of others: the time by which leases end, Unix seconds: the database's own, since clocks of cores differ.
CAST(strftime('%s', 'now') AS INTEGER)

-- ---------------------------------------------------------------------------------------------------------------
-- Keys and tenancy
-- ---------------------------------------------------------------------------------------------------------------

-- name: resolve_key
-- The caller that a key stands for.
SELECT k.id AS key, k.name AS key_name, k.expires, k.revoked, k.disabled, k.rate_limit, k.token_limit, k.scopes,
       p.id AS project, p.uid AS project_id,
       o.id AS organization, o.uid AS organization_id,
       EXISTS (SELECT 1 FROM budgets b
                WHERE b.organization = o.id AND b.project IN (0, p.id) AND b.api_key IN (0, k.id)) AS is_budgeted
  FROM api_keys k
  JOIN projects p ON p.id = k.project
  JOIN organizations o ON o.id = p.organization
 WHERE k.secret_hash = :secret_hash

-- name: find_project
-- A project by id or by name; of several of one name the oldest, so that a new one never takes over a name.
SELECT p.id AS project, p.uid AS project_id, o.id AS organization, o.uid AS organization_id
  FROM projects p
  JOIN organizations o ON o.id = p.organization
 WHERE p.uid = :project OR p.name = :project
 ORDER BY p.id
 LIMIT 1

-- name: add_organization
-- Make an organization unless there is one of that name or id.
INSERT INTO organizations (uid, name, created)
SELECT :uid, :organization, :created
 WHERE NOT EXISTS (SELECT 1 FROM organizations WHERE name = :organization OR uid = :organization)

-- name: add_project
-- Make a project in an organization, given by name or id, unless it has one of that name.
INSERT INTO projects (uid, organization, name, created)
SELECT :uid, o.id, :project, :created
  FROM organizations o
 WHERE (o.name = :organization OR o.uid = :organization)
   AND NOT EXISTS (SELECT 1 FROM projects p WHERE p.organization = o.id AND p.name = :project)

-- name: add_key
-- Make a key in the project of that name in an organization, given by name or id.
INSERT INTO api_keys (uid, project, name, prefix, secret_hash, created, expires, rate_limit, token_limit, scopes)
SELECT :uid, p.id, :name, :prefix, :secret_hash, :created, :expires, :rate_limit, :token_limit, :scopes
  FROM projects p
  JOIN organizations o ON o.id = p.organization
 WHERE p.name = :project AND (o.name = :organization OR o.uid = :organization)

-- name: add_key_by_project_id
-- Make a key in the project of that id.
INSERT INTO api_keys (uid, project, name, prefix, secret_hash, created, expires, rate_limit, token_limit, scopes)
SELECT :uid, p.id, :name, :prefix, :secret_hash, :created, :expires, :rate_limit, :token_limit, :scopes
  FROM projects p
 WHERE p.uid = :project

-- name: key_rows
-- Part of others: keys with the names of what they belong to.
SELECT k.uid, k.name, k.prefix, k.created, k.expires, k.revoked, k.disabled, k.rate_limit, k.token_limit,
       k.scopes, p.uid AS project_id, p.name AS project, o.uid AS organization_id, o.name AS organization
  FROM api_keys k
  JOIN projects p ON p.id = k.project
  JOIN organizations o ON o.id = p.organization

-- name: list_keys
-- All keys, newest first.
{key_rows}
 ORDER BY k.created DESC, k.id DESC

-- name: list_keys_of_project
-- The keys of the project of that id, or of every project of that name, newest first.
{key_rows}
 WHERE p.uid = :project OR p.name = :project
 ORDER BY k.created DESC, k.id DESC

-- name: find_keys
-- The keys of that id or prefix.
{key_rows}
 WHERE k.uid = :key OR k.prefix = :key

-- name: revoke_key
-- Revoke the key of that id, or the only one of that prefix; the first revocation stays.
UPDATE api_keys
   SET revoked = COALESCE(revoked, :now)
 WHERE uid = :key
    OR (prefix = :key AND (SELECT COUNT(*) FROM api_keys k WHERE k.prefix = :key) = 1)

-- name: read_cache_versions
-- The versions of the tables that processes keep in memory.
SELECT name, version FROM cache_versions

-- ---------------------------------------------------------------------------------------------------------------
-- Completions: reading
-- ---------------------------------------------------------------------------------------------------------------

-- name: completion_columns
-- Part of others: a completion as it is listed, of `completions c` and `completion_bodies b`.
c.id, c.created, c.status, c.model, c.provider, c.container_label, c.model_id, c.finish_reason,
c.input_tokens, c.cache_read_tokens, c.cache_write_tokens, c.cache_write_1h_tokens, c.output_tokens,
c.reasoning_tokens, c.input_audio_tokens, c.output_audio_tokens, c.cost_nano_usd, c.service_tier,
c.usage_source, c.spend_nano_usd, c.time_to_first_token_us, c.latency_us, c.tags, c.metadata, c.trace_id, c.span_id,
c.parent_span_id, c.trace_name, c.trace_source, c.trace_metadata, c.error_reason, c.error_message, c.replay_of, b.output

-- name: input_columns
-- Part of others: what the caller of a completion sent, of `completions c` and `completion_bodies b`.
c.requested_model, c.streamed, b.route, b.input

-- name: completions_by_id
-- Part of others: completions, sought by project and id.
  FROM completions c

-- name: find_completion
-- A listed completion.
SELECT {completion_columns}
  {completions_by_id}
  LEFT JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
 WHERE c.project = :project AND c.id = :id AND c.listed = 1

-- name: explain_completion
-- Any completion of the project with what is known of how it came about.
SELECT {completion_columns}, c.seq, c.request_id, c.requested_model, c.streamed, c.content_hash,
       b.input, b.route
  {completions_by_id}
  LEFT JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
 WHERE c.project = :project AND c.id = :id

-- name: list_attempts
-- The attempts of a completion, in order.
SELECT number, provider, model, started_us, latency_us, time_to_first_token_us, outcome, http_status, error_reason,
       error_message, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
       reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano_usd, service_tier, spend_nano_usd
  FROM attempts
 WHERE seq = :seq
 ORDER BY number

-- name: find_position
-- Where in a list a listed completion stands.
SELECT c.created, c.seq
  {completions_by_id}
 WHERE c.project = :project AND c.id = :id AND c.listed = 1

-- The lists: a page of (created, seq) is found in one index, then its rows and bodies are joined. Each comes in two
-- orders: newest first by the time of creation, oldest first by position, so that who follows it misses nothing. A filter that the index does not cover is checked row by row; the store picks the rarest to search by.

-- name: has_facets
-- Part of others: the completion of `completions c` has each of these metadata values.
   AND EXISTS (SELECT 1 FROM completion_facets x WHERE x.facet = :facets_{n} AND x.created = c.created AND x.seq = c.seq) -- each facets

-- name: newest
-- Part of others: the end of a page of `completions c`, newest first.
{has_facets}
   AND (c.created, c.seq) < (:created, :seq)
 ORDER BY c.created DESC, c.seq DESC LIMIT :limit OFFSET :skip

-- name: oldest
-- Part of others: the end of a page of `completions c`, in the order of commits.
{has_facets}
   AND c.seq > :seq AND c.seq <= :settled
 ORDER BY c.seq LIMIT :limit OFFSET :skip

-- name: rows_newest
-- Part of others: the rows and bodies of `page`, newest first.
  JOIN completions c ON c.seq = page.seq AND c.created = page.created
  LEFT JOIN completion_bodies b ON b.seq = page.seq AND b.created = page.created
 ORDER BY page.created DESC, page.seq DESC

-- name: rows_oldest
-- Part of others: the rows and bodies of `page`, in the order of commits.
  JOIN completions c ON c.seq = page.seq AND c.created = page.created
  LEFT JOIN completion_bodies b ON b.seq = page.seq AND b.created = page.created
 ORDER BY page.seq

-- name: of_project
-- Part of others: the listed completions of a project.
SELECT c.created, c.seq FROM completions c
 WHERE c.listed = 1 AND c.project = :project

-- name: of_model
-- Part of others: those of a model.
SELECT c.created, c.seq FROM completions c
 WHERE c.listed = 1 AND c.project = :project AND c.model = :model

-- name: of_container
-- Part of others: those of a container.
SELECT c.created, c.seq FROM completions c
 WHERE c.listed = 1 AND c.project = :project AND c.container = :container

-- name: of_container_model
-- Part of others: those of a model in a container.
SELECT c.created, c.seq FROM completions c
 WHERE c.listed = 1 AND c.project = :project AND c.container = :container AND c.model = :model

-- name: of_facet
-- Part of others: those of a metadata value; of a model and of a container unless these are null.
SELECT c.created, c.seq FROM completion_facets c
 WHERE c.facet = :facet
   AND (CAST(:model AS TEXT) IS NULL
        OR EXISTS (SELECT 1 FROM completions m
                    WHERE m.seq = c.seq AND m.created = c.created AND m.model = :model))
   AND (CAST(:container AS BIGINT) IS NULL
        OR EXISTS (SELECT 1 FROM completions m
                    WHERE m.seq = c.seq AND m.created = c.created AND m.container = :container))

-- name: list_newest
-- A page of a project's completions.
SELECT {completion_columns} FROM (
{of_project}
{newest}
) page
{rows_newest}

-- name: list_oldest
-- The same, in the order of commits.
SELECT {completion_columns} FROM (
{of_project}
{oldest}
) page
{rows_oldest}

-- name: list_by_model_newest
-- A page of a model's completions.
SELECT {completion_columns} FROM (
{of_model}
{newest}
) page
{rows_newest}

-- name: list_by_model_oldest
-- The same, in the order of commits.
SELECT {completion_columns} FROM (
{of_model}
{oldest}
) page
{rows_oldest}

-- name: list_by_container_newest
-- A page of a container's completions.
SELECT {completion_columns} FROM (
{of_container}
{newest}
) page
{rows_newest}

-- name: list_by_container_oldest
-- The same, in the order of commits.
SELECT {completion_columns} FROM (
{of_container}
{oldest}
) page
{rows_oldest}

-- name: list_by_container_model_newest
-- A page of a model's completions in a container.
SELECT {completion_columns} FROM (
{of_container_model}
{newest}
) page
{rows_newest}

-- name: list_by_container_model_oldest
-- The same, in the order of commits.
SELECT {completion_columns} FROM (
{of_container_model}
{oldest}
) page
{rows_oldest}

-- name: list_by_facet_newest
-- A page of the completions with a metadata value.
SELECT {completion_columns} FROM (
{of_facet}
{newest}
) page
{rows_newest}

-- name: list_by_facet_oldest
-- The same, in the order of commits.
SELECT {completion_columns} FROM (
{of_facet}
{oldest}
) page
{rows_oldest}

-- name: count_completions
-- How many listed completions a project has, of a model and of a container unless these are null.
SELECT COALESCE(SUM(completions), 0) AS total
  FROM completion_counts
 WHERE project = :project
   AND (CAST(:model AS TEXT) IS NULL OR model = :model)
   AND (CAST(:container AS BIGINT) IS NULL OR container = :container)

-- name: count_facet
-- How many listed completions have a metadata value, of a model and of a container unless these are null.
SELECT COALESCE(SUM(completions), 0) AS total
  FROM facet_counts
 WHERE facet = :facet
   AND (CAST(:model AS TEXT) IS NULL OR model = :model)
   AND (CAST(:container AS BIGINT) IS NULL OR container = :container)

-- name: count_each_facet
-- The same for each of several metadata values that any completion has.
SELECT facet, SUM(completions) AS total
  FROM facet_counts
 WHERE (CAST(:model AS TEXT) IS NULL OR model = :model)
   AND (CAST(:container AS BIGINT) IS NULL OR container = :container)
   AND facet IN (NULL
       , :facets_{n} -- each facets
       )
 GROUP BY facet

-- name: count_facets
-- How many listed completions have several metadata values; walks those that have the first.
SELECT COUNT(*) AS total FROM (
{of_facet}
{has_facets}
) matches

-- ---------------------------------------------------------------------------------------------------------------
-- Completions: capture
-- ---------------------------------------------------------------------------------------------------------------

-- name: last_position
-- The last position of the ledger; the next record follows it.
SELECT COALESCE(MAX(seq), 0) FROM completions

-- name: insert_completion
-- A row of the ledger.
INSERT INTO completions (
  seq, id, project, organization, api_key, created, request_id, status, listed, streamed, requested_model, model,
  provider, model_id, container, container_label, finish_reason, error_reason, error_message, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, input_audio_tokens,
  output_audio_tokens, cost_nano_usd, service_tier, usage_source, spend_nano_usd, time_to_first_token_us, latency_us,
  tags, metadata, trace_id, span_id, parent_span_id, trace_name, trace_source, trace_metadata, content_hash, replay_of
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_body
-- What was asked and answered.
INSERT INTO completion_bodies (seq, created, output, route, input) VALUES (?, ?, ?, ?, ?)

-- name: insert_attempt
-- One call of a provider.
INSERT INTO attempts (
  seq, number, provider, model, started_us, latency_us, time_to_first_token_us, outcome, http_status, error_reason,
  error_message, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
  reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano_usd, service_tier, spend_nano_usd
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_facet
-- One metadata value of a listed completion.
INSERT INTO completion_facets (facet, created, seq) VALUES (?, ?, ?)

-- name: fold_completion_counts
-- Add to the totals of lists.
INSERT INTO completion_counts (project, model, container, completions) VALUES (?, ?, ?, ?)
ON CONFLICT (project, model, container)
DO UPDATE SET completions = completion_counts.completions + excluded.completions

-- name: fold_facet_counts
-- Add to the totals of lists by metadata.
INSERT INTO facet_counts (facet, model, container, completions) VALUES (?, ?, ?, ?)
ON CONFLICT (facet, model, container)
DO UPDATE SET completions = facet_counts.completions + excluded.completions

-- name: fold_usage
-- Add to the daily sums.
INSERT INTO usage_daily (
  organization, day, project, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, spend_nano_usd,
  unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (organization, day, project, api_key, model, provider, container, status) DO UPDATE SET
  requests = usage_daily.requests + excluded.requests,
  input_tokens = usage_daily.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_daily.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_daily.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_daily.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_daily.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_daily.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_daily.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_daily.unpriced + excluded.unpriced

-- name: fold_traces
-- Add to external traces; name and source stay unless newly given.
INSERT INTO traces (
  project, id, name, source, first_seen, first_seq, last_seen, requests, successes, errors, spend_nano_usd, unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, id) DO UPDATE SET
  name = COALESCE(excluded.name, traces.name),
  source = COALESCE(excluded.source, traces.source),
  first_seq = CASE WHEN excluded.first_seen < traces.first_seen THEN excluded.first_seq ELSE traces.first_seq END,
  first_seen = CASE WHEN excluded.first_seen < traces.first_seen THEN excluded.first_seen ELSE traces.first_seen END,
  last_seen = CASE WHEN excluded.last_seen > traces.last_seen THEN excluded.last_seen ELSE traces.last_seen END,
  requests = traces.requests + excluded.requests,
  successes = traces.successes + excluded.successes,
  errors = traces.errors + excluded.errors,
  spend_nano_usd = traces.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = traces.unpriced + excluded.unpriced

-- name: insert_trace_container
-- A container that an external trace went through.
INSERT INTO trace_containers (project, trace, container) VALUES (?, ?, ?)
ON CONFLICT (project, trace, container) DO NOTHING

-- name: fold_usage_tags
-- Add to the daily sums of tags.
INSERT INTO usage_tags_daily (
  project, tag, day, organization, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, spend_nano_usd,
  unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, tag, day, api_key, model, provider, container, status) DO UPDATE SET
  requests = usage_tags_daily.requests + excluded.requests,
  input_tokens = usage_tags_daily.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_tags_daily.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_tags_daily.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_tags_daily.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_tags_daily.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_tags_daily.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_tags_daily.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_tags_daily.unpriced + excluded.unpriced

-- name: fold_usage_tag_days
-- Add to the daily sums of tags, of all else together.
INSERT INTO usage_tag_days (
  project, tag, day, status, requests, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
  output_tokens, reasoning_tokens, spend_nano_usd, unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (project, tag, day, status) DO UPDATE SET
  requests = usage_tag_days.requests + excluded.requests,
  input_tokens = usage_tag_days.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_tag_days.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_tag_days.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_tag_days.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_tag_days.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_tag_days.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_tag_days.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_tag_days.unpriced + excluded.unpriced

-- name: answer_claim
-- The record is what the key of its request stands for from now on.
UPDATE idempotency_keys SET completion = ?, expires = ? WHERE project = ? AND key = ? AND owner = ?

-- name: drop_reservation
-- Give back what a request had reserved.
DELETE FROM budget_reservations WHERE id = ?

-- name: shrink_reservation
-- Give back what requests had taken of a reservation for several.
UPDATE budget_reservations SET amount_nano_usd = amount_nano_usd - ? WHERE id = ?

-- name: charge_budget
-- Add to what is spent of a budget in a period.
UPDATE budget_windows SET spent_nano_usd = spent_nano_usd + ? WHERE budget = ? AND start = ?
