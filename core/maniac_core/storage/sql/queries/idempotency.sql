-- ---------------------------------------------------------------------------------------------------------------
-- Idempotency keys
-- ---------------------------------------------------------------------------------------------------------------

-- name: claim_idempotency_key
-- Claim a key that is free or whose claim has expired; the row comes back if it worked.
INSERT INTO idempotency_keys (project, key, fingerprint, owner, expires)
VALUES (:project, :key, :fingerprint, :owner, :expires)
ON CONFLICT (project, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, owner = excluded.owner, completion = NULL, expires = excluded.expires
 WHERE idempotency_keys.expires < :now
RETURNING owner

-- name: find_idempotency_key
-- What a key stands for, unless its time is over.
SELECT fingerprint, completion FROM idempotency_keys
 WHERE project = :project AND key = :key AND expires >= :now

-- name: renew_idempotency_key
-- Keep a claim while its request runs.
UPDATE idempotency_keys SET expires = :expires
 WHERE project = :project AND key = :key AND owner = :owner AND completion IS NULL

-- name: release_idempotency_key
-- The claimed request failed, so that a retry runs anew.
DELETE FROM idempotency_keys
 WHERE project = :project AND key = :key AND owner = :owner AND completion IS NULL

-- name: forget_idempotency_keys
-- Remove keys whose time is over.
DELETE FROM idempotency_keys WHERE expires < :now
