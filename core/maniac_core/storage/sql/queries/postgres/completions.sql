-- ---------------------------------------------------------------------------------------------------------------
-- Completions: reading. An id leads to its time and position, and these to one partition.
-- ---------------------------------------------------------------------------------------------------------------

-- name: completions_by_id
-- Part of others: completions, sought by project and id.
  FROM completion_ids i
  JOIN completions c ON c.created = i.created AND c.seq = i.seq AND c.project = i.project AND c.id = i.id

-- name: list_attempts
-- The attempts of a completion, in order.
SELECT number, provider, model, started_us, latency_us, time_to_first_token_us, outcome, http_status, error_reason,
       error_message, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
       reasoning_tokens, input_audio_tokens, output_audio_tokens, cost_nano_usd, service_tier, spend_nano_usd
  FROM attempts
 WHERE seq = :seq AND created = :created
 ORDER BY number

-- name: find_known_ids
-- Those of some ids that the project has a record of, listed or not.
SELECT id FROM completion_ids
 WHERE project = :project AND id IN (NULL
       , :ids_{n} -- each ids
       )

-- name: find_inputs
-- The requests of some completions.
SELECT c.id, {input_columns}
  {completions_by_id}
  LEFT JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
 WHERE i.project = :project AND i.id IN (NULL
       , :ids_{n} -- each ids
       )

-- name: take_retention_turn
-- Whether this core is the one that may delete bodies now: it is until it says so, or its writing connection ends.
SELECT CASE WHEN pg_try_advisory_lock(1835466758) THEN 1 ELSE 0 END AS taken

-- name: end_retention_turn
-- Let another one.
SELECT CASE WHEN pg_advisory_unlock(1835466758) THEN 1 ELSE 0 END AS ended

-- name: settled_positions
-- The last position that was taken, and the last one up to which every capture has ended.
SELECT taken, settled FROM settled_positions()
