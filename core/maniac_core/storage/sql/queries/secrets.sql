-- ---------------------------------------------------------------------------------------------------------------
-- Secrets of the install
-- ---------------------------------------------------------------------------------------------------------------

-- name: add_secret
-- Keep a value, unless another core was faster.
INSERT INTO secrets (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING

-- name: find_secret
-- The value that all cores use.
SELECT value FROM secrets WHERE name = :name
