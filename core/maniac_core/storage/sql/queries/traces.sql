-- ---------------------------------------------------------------------------------------------------------------
-- Traces
-- ---------------------------------------------------------------------------------------------------------------

-- name: trace_rows
-- Part of others: external traces with how many containers they went through.
SELECT t.id, t.name, t.source, t.first_seen, t.first_seq, t.last_seen, t.requests, t.successes, t.errors, t.spend_nano_usd,
       (SELECT COUNT(*) FROM trace_containers x WHERE x.project = t.project AND x.trace = t.id) AS containers
  FROM traces t

-- name: find_trace
-- A trace by its external id.
{trace_rows}
 WHERE t.project = :project AND t.id = :id

-- name: list_traces
-- A page of a project's traces, newest first, from a position on. It is found in one index, then its rows are joined.
{trace_rows}
  JOIN (
  SELECT p.project, p.id
    FROM traces p
   WHERE p.project = :project AND (p.first_seen, p.first_seq, p.id) < (:first_seen, :first_seq, :id)
   ORDER BY p.first_seen DESC, p.first_seq DESC, p.id DESC
   LIMIT :limit OFFSET :skip
) page ON page.project = t.project AND page.id = t.id
 ORDER BY t.first_seen DESC, t.first_seq DESC, t.id DESC

-- name: count_traces
-- How many traces a project has.
SELECT COALESCE(SUM(traces), 0) AS total FROM trace_counts WHERE project = :project

-- name: list_trace_requests
-- The last requests of a trace, stored or not, newest first.
SELECT id, created, status, container, span_id, parent_span_id
  FROM completions
 WHERE project = :project AND trace_id = :trace
 ORDER BY created DESC, seq DESC
 LIMIT :limit

-- name: find_trace_context
-- The context that the last request of a trace brought.
SELECT trace_id, span_id, parent_span_id, trace_name, trace_source, trace_metadata
  FROM completions
 WHERE project = :project AND trace_id = :trace
 ORDER BY created DESC, seq DESC
 LIMIT 1
