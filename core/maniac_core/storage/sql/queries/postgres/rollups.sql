-- ---------------------------------------------------------------------------------------------------------------
-- Folding: what captures added is summed up with what was folded before. One core at a time does it.
-- ---------------------------------------------------------------------------------------------------------------

-- name: fold_completion_counts_deltas
-- Fold into completion_counts.
WITH moved AS (DELETE FROM completion_counts_deltas RETURNING *)
INSERT INTO completion_counts_folded (
  project, model, container, completions
)
SELECT project, model, container, SUM(completions)
  FROM moved
 GROUP BY project, model, container
 ORDER BY project, model, container
ON CONFLICT (project, model, container) DO UPDATE SET
  completions = completion_counts_folded.completions + excluded.completions

-- name: fold_facet_counts_deltas
-- Fold into facet_counts.
WITH moved AS (DELETE FROM facet_counts_deltas RETURNING *)
INSERT INTO facet_counts_folded (
  facet, model, container, completions
)
SELECT facet, model, container, SUM(completions)
  FROM moved
 GROUP BY facet, model, container
 ORDER BY facet, model, container
ON CONFLICT (facet, model, container) DO UPDATE SET
  completions = facet_counts_folded.completions + excluded.completions

-- name: fold_usage_daily_deltas
-- Fold into usage_daily.
WITH moved AS (DELETE FROM usage_daily_deltas RETURNING *)
INSERT INTO usage_daily_folded (
  organization, day, project, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
  spend_nano_usd, unpriced
)
SELECT organization, day, project, api_key, model, provider, container, status, SUM(requests), SUM(input_tokens),
       SUM(cache_read_tokens), SUM(cache_write_tokens), SUM(cache_write_1h_tokens), SUM(output_tokens),
       SUM(reasoning_tokens), SUM(spend_nano_usd), SUM(unpriced)
  FROM moved
 GROUP BY organization, day, project, api_key, model, provider, container, status
 ORDER BY organization, day, project, api_key, model, provider, container, status
ON CONFLICT (organization, day, project, api_key, model, provider, container, status) DO UPDATE SET
  requests = usage_daily_folded.requests + excluded.requests,
  input_tokens = usage_daily_folded.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_daily_folded.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_daily_folded.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_daily_folded.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_daily_folded.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_daily_folded.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_daily_folded.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_daily_folded.unpriced + excluded.unpriced

-- name: fold_usage_tags_daily_deltas
-- Fold into usage_tags_daily.
WITH moved AS (DELETE FROM usage_tags_daily_deltas RETURNING *)
INSERT INTO usage_tags_daily_folded (
  project, tag, day, organization, api_key, model, provider, container, status, requests, input_tokens,
  cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
  spend_nano_usd, unpriced
)
SELECT project, tag, day, organization, api_key, model, provider, container, status, SUM(requests),
       SUM(input_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens), SUM(cache_write_1h_tokens),
       SUM(output_tokens), SUM(reasoning_tokens), SUM(spend_nano_usd), SUM(unpriced)
  FROM moved
 GROUP BY project, tag, day, organization, api_key, model, provider, container, status
 ORDER BY project, tag, day, api_key, model, provider, container, status
ON CONFLICT (project, tag, day, api_key, model, provider, container, status) DO UPDATE SET
  requests = usage_tags_daily_folded.requests + excluded.requests,
  input_tokens = usage_tags_daily_folded.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_tags_daily_folded.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_tags_daily_folded.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_tags_daily_folded.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_tags_daily_folded.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_tags_daily_folded.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_tags_daily_folded.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_tags_daily_folded.unpriced + excluded.unpriced

-- name: fold_usage_tag_days_deltas
-- Fold into usage_tag_days.
WITH moved AS (DELETE FROM usage_tag_days_deltas RETURNING *)
INSERT INTO usage_tag_days_folded (
  project, tag, day, status, requests, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
  output_tokens, reasoning_tokens, spend_nano_usd, unpriced
)
SELECT project, tag, day, status, SUM(requests), SUM(input_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens),
       SUM(cache_write_1h_tokens), SUM(output_tokens), SUM(reasoning_tokens), SUM(spend_nano_usd), SUM(unpriced)
  FROM moved
 GROUP BY project, tag, day, status
 ORDER BY project, tag, day, status
ON CONFLICT (project, tag, day, status) DO UPDATE SET
  requests = usage_tag_days_folded.requests + excluded.requests,
  input_tokens = usage_tag_days_folded.input_tokens + excluded.input_tokens,
  cache_read_tokens = usage_tag_days_folded.cache_read_tokens + excluded.cache_read_tokens,
  cache_write_tokens = usage_tag_days_folded.cache_write_tokens + excluded.cache_write_tokens,
  cache_write_1h_tokens = usage_tag_days_folded.cache_write_1h_tokens + excluded.cache_write_1h_tokens,
  output_tokens = usage_tag_days_folded.output_tokens + excluded.output_tokens,
  reasoning_tokens = usage_tag_days_folded.reasoning_tokens + excluded.reasoning_tokens,
  spend_nano_usd = usage_tag_days_folded.spend_nano_usd + excluded.spend_nano_usd,
  unpriced = usage_tag_days_folded.unpriced + excluded.unpriced

-- name: fold_trace_counts_deltas
-- Fold into trace_counts.
WITH moved AS (DELETE FROM trace_counts_deltas RETURNING *)
INSERT INTO trace_counts_folded (
  project, traces
)
SELECT project, SUM(traces)
  FROM moved
 GROUP BY project
 ORDER BY project
ON CONFLICT (project) DO UPDATE SET
  traces = trace_counts_folded.traces + excluded.traces
