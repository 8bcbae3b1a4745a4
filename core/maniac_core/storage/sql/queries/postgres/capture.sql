-- ---------------------------------------------------------------------------------------------------------------
-- Completions: capture. Here each `?` is a column of all rows of a batch, as an array.
-- ---------------------------------------------------------------------------------------------------------------

-- name: insert_completion_id
-- Where the completion of an id is.
INSERT INTO completion_ids (project, id, created, seq) VALUES (?, ?, ?, ?)

-- name: insert_attempt
-- One call of a provider.
INSERT INTO attempts (
  created, seq, number, provider, model, started_us, latency_us, time_to_first_token_us, outcome, http_status,
  error_reason, error_message, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
  output_tokens, reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano_usd, service_tier, spend_nano_usd
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: fold_completion_counts
-- Add to the totals of lists.
INSERT INTO completion_counts_deltas (project, model, container, completions) VALUES (?, ?, ?, ?)

-- name: fold_facet_counts
-- Add to the totals of lists by metadata.
INSERT INTO facet_counts_deltas (facet, model, container, completions) VALUES (?, ?, ?, ?)

-- name: fold_usage
-- Add to the daily sums.
INSERT INTO usage_daily_deltas (
  organization, day, project, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, spend_nano_usd,
  unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: fold_usage_tags
-- Add to the daily sums of tags.
INSERT INTO usage_tags_daily_deltas (
  project, tag, day, organization, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, spend_nano_usd,
  unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: fold_usage_tag_days
-- Add to the daily sums of tags, of all else together.
INSERT INTO usage_tag_days_deltas (
  project, tag, day, status, requests, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
  output_tokens, reasoning_tokens, spend_nano_usd, unpriced
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: answer_claim
-- Records are what the keys of their requests stand for from now on.
UPDATE idempotency_keys k SET completion = c.completion, expires = c.expires
  FROM unnest(
         CAST(? AS text[]), CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS text[]), CAST(? AS text[])
       ) c (completion, expires, project, key, owner)
 WHERE k.project = c.project AND k.key = c.key AND k.owner = c.owner
RETURNING k.completion

-- name: drop_reservation
-- Give back what a request had reserved.
DELETE FROM budget_reservations WHERE id = ANY (CAST(? AS text[]))

-- name: shrink_reservation
-- Give back what requests had taken of reservations for several; rows are locked in the order of their keys.
UPDATE budget_reservations r SET amount_nano_usd = r.amount_nano_usd - t.amount
  FROM (
    SELECT l.id, l.budget, c.amount
      FROM budget_reservations l
      JOIN unnest(CAST(? AS bigint[]), CAST(? AS text[])) c (amount, id) ON c.id = l.id
     ORDER BY l.id, l.budget
       FOR UPDATE OF l
  ) t
 WHERE r.id = t.id AND r.budget = t.budget

-- name: charge_budget
-- Add to what is spent of budgets in a period; their rows are locked in the order of their keys.
UPDATE budget_windows w SET spent_nano_usd = w.spent_nano_usd + r.charge
  FROM (
    SELECT l.budget, l.start, c.charge
      FROM budget_windows l
      JOIN unnest(CAST(? AS bigint[]), CAST(? AS bigint[]), CAST(? AS bigint[])) c (charge, budget, start)
        ON c.budget = l.budget AND c.start = l.start
     ORDER BY l.budget, l.start
       FOR UPDATE OF l
  ) r
 WHERE w.budget = r.budget AND w.start = r.start
