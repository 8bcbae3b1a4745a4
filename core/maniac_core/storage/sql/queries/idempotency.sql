-- ---------------------------------------------------------------------------------------------------------------
-- Idempotency keys
-- ---------------------------------------------------------------------------------------------------------------

-- name: key_is_over
-- Part of others: whether the time of a key is over. A claim that ends later than any can is from before the clock
-- was set back.
(expires < {lease_now} OR (completion IS NULL AND expires > {lease_now} + CAST(:lease_s AS BIGINT)))

-- name: claim_idempotency_key
-- Claim a key that is free or whose claim has expired; the row comes back if it worked.
INSERT INTO idempotency_keys AS k (project, key, fingerprint, owner, expires)
VALUES (:project, :key, :fingerprint, :owner, {lease_now} + CAST(:lease_s AS BIGINT))
ON CONFLICT (project, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, owner = excluded.owner, completion = NULL, expires = excluded.expires
 WHERE k.expires < {lease_now} OR (k.completion IS NULL AND k.expires > {lease_now} + CAST(:lease_s AS BIGINT))
RETURNING owner

-- name: find_idempotency_key
-- What a key stands for, unless its time is over.
SELECT fingerprint, completion FROM idempotency_keys
 WHERE project = :project AND key = :key AND NOT {key_is_over}

-- name: renew_idempotency_key
-- Keep a claim while its request runs; the row comes back unless another request has the key.
UPDATE idempotency_keys
   SET expires = CASE WHEN completion IS NULL THEN {lease_now} + CAST(:lease_s AS BIGINT) ELSE expires END
 WHERE project = :project AND key = :key AND owner = :owner
RETURNING owner

-- name: release_idempotency_key
-- The claimed request failed, so that a retry runs anew.
DELETE FROM idempotency_keys
 WHERE project = :project AND key = :key AND owner = :owner AND completion IS NULL

-- name: forget_idempotency_keys
-- Remove keys whose time is over. A claim that lapsed stays for a day: its request may only have been held up.
DELETE FROM idempotency_keys
 WHERE expires < {lease_now} AND (completion IS NOT NULL OR expires < {lease_now} - 86400)
