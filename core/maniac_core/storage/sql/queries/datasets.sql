-- ---------------------------------------------------------------------------------------------------------------
-- Datasets
-- ---------------------------------------------------------------------------------------------------------------

-- name: dataset_rows
-- Datasets with the ids of their project, organization and container.
SELECT d.*, p.uid AS project_id, o.uid AS organization_id, c.uid AS container_id, c.label AS container_label
  FROM datasets d
  JOIN projects p ON p.id = d.project
  JOIN organizations o ON o.id = p.organization
  JOIN containers c ON c.id = d.container

-- name: find_dataset
-- A complete dataset by its id.
{dataset_rows}
 WHERE d.project = :project AND d.uid = :uid AND d.state = 'ready'

-- name: list_datasets
-- A page of a project's complete datasets, newest first, from a position on.
{dataset_rows}
 WHERE d.project = :project AND d.state = 'ready' AND (d.created, d.id) < (:created, :id)
 ORDER BY d.created DESC, d.id DESC
 LIMIT :limit OFFSET :skip

-- name: list_datasets_of_container
-- The same for a container.
{dataset_rows}
 WHERE d.project = :project AND d.container = :container AND d.state = 'ready' AND (d.created, d.id) < (:created, :id)
 ORDER BY d.created DESC, d.id DESC
 LIMIT :limit OFFSET :skip

-- name: count_datasets
-- How many complete datasets a project has.
SELECT COUNT(*) AS total FROM datasets WHERE project = :project AND state = 'ready'

-- name: count_datasets_of_container
-- How many complete datasets a container has.
SELECT COUNT(*) AS total FROM datasets WHERE project = :project AND container = :container AND state = 'ready'

-- ---------------------------------------------------------------------------------------------------------------
-- Taking a snapshot, window by window from the newest completion back. Bodies are read by filters on texts alone.
-- ---------------------------------------------------------------------------------------------------------------

-- name: find_window_end
-- The completion of a container that stands so many before a position; walks one index.
SELECT c.created, c.seq
  FROM completions c
 WHERE c.listed = 1 AND c.project = :project AND c.container = :container AND (c.created, c.seq) < (:created, :seq)
 ORDER BY c.created DESC, c.seq DESC
 LIMIT 1 OFFSET :skip

-- name: in_window
-- Part of others: completions of a container from a position back to another one, with their content, that fit all filters.
 WHERE c.listed = 1 AND c.project = :project AND c.container = :container
   AND (c.created, c.seq) < (:created, :seq) AND (c.created, c.seq) >= (:end_created, :end_seq)
   AND c.seq <= :last_seq AND c.content_hash IS NOT NULL
   AND 1 = 1 -- and filters
 ORDER BY c.created DESC, c.seq DESC
 LIMIT :limit

-- name: match_completions
-- What to take out of a window.
SELECT c.seq
  FROM completions c
{in_window}

-- name: match_completions_with_bodies
-- The same with filters on texts, which are looked at after all others.
SELECT c.seq
  FROM completions c
  JOIN completion_bodies b ON b.seq = c.seq AND b.created = c.created
{in_window}

-- name: add_dataset
-- Make a dataset that is not complete yet.
INSERT INTO datasets (uid, project, container, name, description, requested_size, size, filters, tags, metadata, state,
                      lease, created)
VALUES (:uid, :project, :container, :name, :description, :requested_size, 0, :filters, :tags, :metadata, 'building',
        :lease, :created)
RETURNING id

-- name: extend_lease
-- Keep a dataset that is not complete from being taken for a leftover.
UPDATE datasets SET lease = :lease WHERE id = :dataset AND state <> 'ready'

-- name: add_dataset_items
-- Take completions, in the order of the ledger; one whose content went away meanwhile is left out.
INSERT INTO dataset_items (dataset, position, seq, created, completion, content_hash)
SELECT CAST(:dataset AS BIGINT), CAST(:position AS BIGINT) + ROW_NUMBER() OVER (ORDER BY c.created DESC, c.seq DESC) - 1,
       c.seq, c.created, c.id, c.content_hash
  FROM completions c
 WHERE c.content_hash IS NOT NULL AND c.seq IN (NULL
       , :seqs_{n} -- each seqs
       )
RETURNING position, content_hash

-- name: complete_dataset
-- Show a dataset whose items are all there.
UPDATE datasets SET state = 'ready', size = :size, content_hash = :content_hash
 WHERE id = :dataset AND state = 'building'

-- ---------------------------------------------------------------------------------------------------------------
-- Reading items
-- ---------------------------------------------------------------------------------------------------------------

-- name: list_item_sizes
-- How large the bodies of the next items are, without reading them.
SELECT i.position, COALESCE(LENGTH(b.input), 0) + COALESCE(LENGTH(b.output), 0) AS size_bytes
  FROM dataset_items i
  LEFT JOIN completion_bodies b ON b.seq = i.seq AND b.created = i.created
 WHERE i.dataset = :dataset AND i.position >= :position
 ORDER BY i.position
 LIMIT :limit

-- name: list_items
-- Items of a dataset with their completions.
SELECT {completion_columns}, {input_columns}
  FROM dataset_items i
  JOIN completions c ON c.seq = i.seq AND c.created = i.created
  LEFT JOIN completion_bodies b ON b.seq = i.seq AND b.created = i.created
 WHERE i.dataset = :dataset AND i.position >= :first AND i.position <= :last
 ORDER BY i.position

-- ---------------------------------------------------------------------------------------------------------------
-- Deleting
-- ---------------------------------------------------------------------------------------------------------------

-- name: discard_dataset
-- Take a complete dataset out of sight.
UPDATE datasets SET state = 'discarded', lease = :lease WHERE uid = :uid AND project = :project AND state = 'ready'
RETURNING id

-- name: list_leftovers
-- Datasets that were never completed, or not deleted to the end, and that nobody works on any more.
SELECT id FROM datasets WHERE state IN ('building', 'discarded') AND lease < :now

-- name: delete_items
-- Delete some items of a dataset that is not complete.
DELETE FROM dataset_items
 WHERE dataset = :dataset AND position IN (
       SELECT i.position FROM dataset_items i
        WHERE i.dataset = :dataset AND EXISTS (SELECT 1 FROM datasets d WHERE d.id = i.dataset AND d.state <> 'ready')
        ORDER BY i.position LIMIT :limit)
RETURNING position

-- name: delete_dataset
-- Delete a dataset that has no items any more.
DELETE FROM datasets
 WHERE id = :dataset AND state <> 'ready' AND NOT EXISTS (SELECT 1 FROM dataset_items i WHERE i.dataset = :dataset)

-- ---------------------------------------------------------------------------------------------------------------
-- Retention of bodies. What a dataset has taken is kept, and a completion without its body is in no later dataset.
-- ---------------------------------------------------------------------------------------------------------------

-- name: take_retention_turn
-- Whether this process is the one that may delete bodies now. Only one opens the file.
SELECT 1 AS taken

-- name: end_retention_turn
-- Let another one.
SELECT 1 AS ended

-- name: find_expired
-- Completions from before a time, in a range of positions, that have content which no dataset has taken.
SELECT c.seq
  FROM completions c
 WHERE c.seq >= :first AND c.seq <= :last AND c.created < :before
   AND (c.content_hash IS NOT NULL
        OR EXISTS (SELECT 1 FROM completion_bodies b WHERE b.seq = c.seq AND b.created = c.created))
   AND NOT EXISTS (SELECT 1 FROM dataset_items i WHERE i.seq = c.seq)
 ORDER BY c.seq

-- name: forget_content
-- Say in the ledger that their content is gone, unless a dataset has taken it meanwhile.
UPDATE completions SET content_hash = NULL
 WHERE created < :before AND content_hash IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM dataset_items i WHERE i.seq = completions.seq)
   AND seq IN (NULL
       , :seqs_{n} -- each seqs
       )

-- name: delete_bodies
-- Delete them.
DELETE FROM completion_bodies
 WHERE created < :before
   AND NOT EXISTS (SELECT 1 FROM dataset_items i WHERE i.seq = completion_bodies.seq)
   AND seq IN (NULL
       , :seqs_{n} -- each seqs
       )
RETURNING seq
