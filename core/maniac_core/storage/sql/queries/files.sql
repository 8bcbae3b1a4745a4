-- ---------------------------------------------------------------------------------------------------------------
-- Files
-- ---------------------------------------------------------------------------------------------------------------

-- name: add_unowned_object
-- Note an object before its first byte is written.
INSERT INTO unowned_objects (uid, touched) VALUES (:uid, :now)

-- name: own_object
-- Make a file of an object, unless the object was condemned in the meantime.
INSERT INTO files (uid, project, filename, purpose, size_bytes, sha256, created)
SELECT uid, :project, :filename, :purpose, :size_bytes, :sha256, :created FROM unowned_objects
 WHERE uid = :uid AND touched >= 0
RETURNING id

-- name: forget_object
-- Take an object off the list of the unowned.
DELETE FROM unowned_objects WHERE uid = :uid

-- name: touch_object
-- Say that an object is in use.
UPDATE unowned_objects SET touched = :now WHERE uid = :uid AND touched >= 0

-- name: condemn_object
-- Decide that an object nobody has touched since is deleted: from now on no file can be made of it.
UPDATE unowned_objects SET touched = -1 WHERE uid = :uid AND touched < :before RETURNING uid

-- name: list_unowned_objects
-- Objects that nobody has touched since, the oldest first.
SELECT uid FROM unowned_objects WHERE touched < :before ORDER BY touched LIMIT :limit

-- name: find_file
-- A file by its id, deleted or not.
SELECT * FROM files WHERE uid = :uid AND project = :project

-- name: list_files
-- A page of the live files, newest first, from a position on.
SELECT * FROM files
 WHERE project = :project AND deleted IS NULL AND (created, id) < (:created, :id)
 ORDER BY created DESC, id DESC
 LIMIT :limit OFFSET :skip

-- name: list_files_of_purpose
-- The same, of one purpose.
SELECT * FROM files
 WHERE project = :project AND purpose = :purpose AND deleted IS NULL AND (created, id) < (:created, :id)
 ORDER BY created DESC, id DESC
 LIMIT :limit OFFSET :skip

-- name: count_files
-- How many live files a project has.
SELECT count(*) AS total FROM files WHERE project = :project AND deleted IS NULL

-- name: count_files_of_purpose
-- The same, of one purpose.
SELECT count(*) AS total FROM files WHERE project = :project AND purpose = :purpose AND deleted IS NULL

-- name: sum_files
-- How many bytes the live files of a project have.
SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS total FROM files WHERE project = :project AND deleted IS NULL

-- name: disown_object
-- Put a live file's object on the list of the unowned.
INSERT INTO unowned_objects (uid, touched)
SELECT uid, :now FROM files WHERE uid = :uid AND project = :project AND deleted IS NULL

-- name: delete_file
-- Delete a live file softly.
UPDATE files SET deleted = :now WHERE uid = :uid AND project = :project AND deleted IS NULL RETURNING *
