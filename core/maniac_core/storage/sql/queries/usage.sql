-- ---------------------------------------------------------------------------------------------------------------
-- Usage reports, from the daily sums alone
-- ---------------------------------------------------------------------------------------------------------------

-- name: usage_selected
-- Part of others: what is common to the rows of both tables of daily sums.
   AND u.day BETWEEN :first_day AND :last_day
   AND (CAST(:model AS TEXT) IS NULL OR u.model = :model)
   AND (CAST(:container AS BIGINT) IS NULL OR u.container = :container)
   AND (CAST(:key AS BIGINT) IS NULL OR u.api_key = :key)

-- name: usage_tokens
-- Part of others: the tokens of a row. What is beyond 2^53 was no count, and must not carry the sums out of 64 bits.
CASE WHEN u.input_tokens < 9007199254740992 THEN u.input_tokens ELSE 9007199254740992 END AS input_tokens,
CASE WHEN u.cache_read_tokens < 9007199254740992 THEN u.cache_read_tokens ELSE 9007199254740992 END AS cache_read_tokens,
CASE WHEN u.cache_write_tokens < 9007199254740992 THEN u.cache_write_tokens ELSE 9007199254740992 END AS cache_write_tokens,
CASE WHEN u.cache_write_1h_tokens < 9007199254740992 THEN u.cache_write_1h_tokens ELSE 9007199254740992 END AS cache_write_1h_tokens,
CASE WHEN u.output_tokens < 9007199254740992 THEN u.output_tokens ELSE 9007199254740992 END AS output_tokens,
CASE WHEN u.reasoning_tokens < 9007199254740992 THEN u.reasoning_tokens ELSE 9007199254740992 END AS reasoning_tokens

-- name: usage_columns
-- Part of others: the sums of a row.
u.requests, {usage_tokens}, u.spend_nano_usd, u.unpriced

-- name: usage_of_unknown
-- Part of others: what cores that are gone, or held up, had reserved for requests; the dearest that each can have cost.
SELECT r.created / 86400 AS day, '' AS model, 0 AS container, r.api_key, 'unknown' AS status, 1 AS requests,
       0 AS input_tokens, 0 AS cache_read_tokens, 0 AS cache_write_tokens, 0 AS cache_write_1h_tokens,
       0 AS output_tokens, 0 AS reasoning_tokens, r.amount_nano_usd AS spend_nano_usd, 0 AS unpriced
  FROM budget_reservations r
 WHERE r.project = :project AND r.expires <= {lease_now} AND r.amount_nano_usd > 0
   AND NOT EXISTS (SELECT 1 FROM budget_reservations o WHERE o.id = r.id AND o.budget < r.budget)

-- name: usage_of_requests
-- Part of others: the sums of requests, each in one row.
SELECT u.day, u.model, u.container, u.api_key, u.status, '' AS tag, {usage_columns}
  FROM usage_daily u
 WHERE u.organization = :organization AND u.project = :project
{usage_selected}
UNION ALL
SELECT u.day, u.model, u.container, u.api_key, u.status, '' AS tag, {usage_columns}
  FROM (
{usage_of_unknown}
  ) u
 WHERE 1 = 1
{usage_selected}

-- name: usage_of_tag
-- Part of others: the sums of the requests with a tag.
SELECT u.day, u.model, u.container, u.api_key, u.status, u.tag, {usage_columns}
  FROM usage_tags_daily u
 WHERE u.project = :project AND u.tag = :tag
{usage_selected}

-- name: usage_of_tags
-- Part of others: the sums of each tag; those of no tag are what is left of all without what has any.
SELECT u.day, u.model, u.container, u.api_key, u.status, u.tag, {usage_columns}
  FROM usage_tags_daily u
 WHERE u.project = :project AND u.tag <> ''
{usage_selected}
UNION ALL
{usage_of_requests}
UNION ALL
SELECT n.day, n.model, n.container, n.api_key, n.status, n.tag, -n.requests, -n.input_tokens, -n.cache_read_tokens,
       -n.cache_write_tokens, -n.cache_write_1h_tokens, -n.output_tokens, -n.reasoning_tokens, -n.spend_nano_usd,
       -n.unpriced
  FROM (
SELECT u.day, u.model, u.container, u.api_key, u.status, u.tag, {usage_columns}
  FROM usage_tags_daily u
 WHERE u.project = :project AND u.tag = ''
{usage_selected}
  ) n

-- name: usage_of_tag_days
-- Part of others: the same from the sums of all keys, models and containers together.
SELECT u.day, '' AS model, CAST(0 AS BIGINT) AS container, CAST(0 AS BIGINT) AS api_key, u.status, u.tag, {usage_columns}
  FROM usage_tag_days u
 WHERE u.project = :project AND u.tag <> '' AND u.day BETWEEN :first_day AND :last_day
UNION ALL
{usage_of_requests}
UNION ALL
SELECT n.day, '', 0, 0, n.status, n.tag, -n.requests, -n.input_tokens, -n.cache_read_tokens, -n.cache_write_tokens,
       -n.cache_write_1h_tokens, -n.output_tokens, -n.reasoning_tokens, -n.spend_nano_usd, -n.unpriced
  FROM (
SELECT u.day, u.status, u.tag, {usage_columns}
  FROM usage_tag_days u
 WHERE u.project = :project AND u.tag = '' AND u.day BETWEEN :first_day AND :last_day
  ) n

-- name: usage_sums
-- Part of others: the totals of rows.
       COALESCE(SUM(u.requests), 0) AS requests,
       COALESCE(SUM(CASE WHEN u.status IN ('completed', 'registered') THEN u.requests ELSE 0 END), 0) AS successes,
       COALESCE(SUM(CASE WHEN u.status IN ('failed', 'truncated', 'rejected') THEN u.requests ELSE 0 END), 0) AS errors,
       COALESCE(SUM(CASE WHEN u.status = 'unknown' THEN u.requests ELSE 0 END), 0) AS unknown,
       COALESCE(SUM(u.input_tokens), 0) AS input_tokens,
       COALESCE(SUM(u.cache_read_tokens), 0) AS cache_read_tokens,
       COALESCE(SUM(u.cache_write_tokens), 0) AS cache_write_tokens,
       COALESCE(SUM(u.cache_write_1h_tokens), 0) AS cache_write_1h_tokens,
       COALESCE(SUM(u.output_tokens), 0) AS output_tokens,
       COALESCE(SUM(u.reasoning_tokens), 0) AS reasoning_tokens,
       COALESCE(SUM(u.spend_nano_usd), 0) AS spend_nano_usd,
       COALESCE(SUM(u.unpriced), 0) AS unpriced

-- name: usage_dimensions
-- Part of others: what rows are grouped by, the same for all where it is not asked for.
SELECT CASE WHEN CAST(:by_day AS BIGINT) = 1 THEN u.day ELSE 0 END AS day,
       CASE WHEN CAST(:by_model AS BIGINT) = 1 THEN u.model ELSE '' END AS model,
       CASE WHEN CAST(:by_container AS BIGINT) = 1 THEN COALESCE(c.label, '') ELSE '' END AS container,
       CASE WHEN CAST(:by_key AS BIGINT) = 1 THEN COALESCE(k.uid, '') ELSE '' END AS key_id,
       CASE WHEN CAST(:by_tag AS BIGINT) = 1 THEN u.tag ELSE '' END AS tag,
{usage_sums}

-- name: usage_names
-- Part of others: the names that rows are grouped by.
  LEFT JOIN containers c ON c.id = u.container
  LEFT JOIN api_keys k ON k.id = u.api_key
 GROUP BY 1, 2, 3, 4, 5
HAVING SUM(u.requests) > 0

-- name: usage_page
-- Part of others: a page of groups, the newest day first, then by up to four texts.
 ORDER BY g.day DESC,
       CASE CAST(:first AS TEXT)
         WHEN 'model' THEN g.model WHEN 'container' THEN g.container WHEN 'key' THEN g.key_id WHEN 'tag' THEN g.tag END,
       CASE CAST(:second AS TEXT)
         WHEN 'model' THEN g.model WHEN 'container' THEN g.container WHEN 'key' THEN g.key_id WHEN 'tag' THEN g.tag END,
       CASE CAST(:third AS TEXT)
         WHEN 'model' THEN g.model WHEN 'container' THEN g.container WHEN 'key' THEN g.key_id WHEN 'tag' THEN g.tag END,
       CASE CAST(:fourth AS TEXT)
         WHEN 'model' THEN g.model WHEN 'container' THEN g.container WHEN 'key' THEN g.key_id WHEN 'tag' THEN g.tag END
 LIMIT :limit OFFSET :skip

-- name: list_usage
-- A page of groups of requests.
SELECT * FROM (
{usage_dimensions}
  FROM (
{usage_of_requests}
  ) u
{usage_names}
) g
{usage_page}

-- name: list_usage_of_tag
-- The same of the requests with a tag.
SELECT * FROM (
{usage_dimensions}
  FROM (
{usage_of_tag}
  ) u
{usage_names}
) g
{usage_page}

-- name: list_usage_of_tags
-- The same, where the tag is one of the dimensions.
SELECT * FROM (
{usage_dimensions}
  FROM (
{usage_of_tags}
  ) u
{usage_names}
) g
{usage_page}

-- name: list_usage_of_tag_days
-- The same, where nothing but the day is a dimension beside, and nothing is selected.
SELECT * FROM (
{usage_dimensions}
  FROM (
{usage_of_tag_days}
  ) u
{usage_names}
) g
{usage_page}

-- name: count_usage
-- How many groups of requests there are.
SELECT COUNT(*) AS total FROM (
{usage_dimensions}
  FROM (
{usage_of_requests}
  ) u
{usage_names}
) g

-- name: count_usage_of_tag
-- The same of the requests with a tag.
SELECT COUNT(*) AS total FROM (
{usage_dimensions}
  FROM (
{usage_of_tag}
  ) u
{usage_names}
) g

-- name: count_usage_of_tags
-- The same, where the tag is one of the dimensions.
SELECT COUNT(*) AS total FROM (
{usage_dimensions}
  FROM (
{usage_of_tags}
  ) u
{usage_names}
) g

-- name: count_usage_of_tag_days
-- The same, where nothing but the day is a dimension beside, and nothing is selected.
SELECT COUNT(*) AS total FROM (
{usage_dimensions}
  FROM (
{usage_of_tag_days}
  ) u
{usage_names}
) g

-- name: sum_usage
-- The totals of requests.
SELECT
{usage_sums}
  FROM (
{usage_of_requests}
  ) u

-- name: sum_usage_of_tag
-- The totals of the requests with a tag.
SELECT
{usage_sums}
  FROM (
{usage_of_tag}
  ) u

-- name: find_key_of_project
-- The key of that id in a project.
SELECT id FROM api_keys WHERE uid = :key AND project = :project

-- name: add_refusals
-- Add to how many requests of a key were refused for a reason.
INSERT INTO refusals_daily (day, organization, project, api_key, code, requests)
VALUES (:day, :organization, :project, :key, :code, :requests)
ON CONFLICT (project, day, api_key, code) DO UPDATE SET requests = refusals_daily.requests + excluded.requests

-- name: sum_refusals
-- How many requests were refused, by reason.
SELECT r.code, SUM(r.requests) AS requests
  FROM refusals_daily r
 WHERE r.project = :project AND r.day BETWEEN :first_day AND :last_day
   AND (CAST(:key AS BIGINT) IS NULL OR r.api_key = :key)
 GROUP BY r.code
 ORDER BY r.code
