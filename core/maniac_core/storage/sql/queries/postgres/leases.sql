-- ---------------------------------------------------------------------------------------------------------------
-- Leases
-- ---------------------------------------------------------------------------------------------------------------

-- name: lease_now
-- Part of others: the time by which leases end, Unix seconds: the server's own, since clocks of cores differ.
CAST(EXTRACT(EPOCH FROM statement_timestamp()) AS BIGINT)
