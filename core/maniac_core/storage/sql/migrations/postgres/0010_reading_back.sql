-- Of a completion that was deleted, only numbers are left. A replay names the completion whose request it sent again.

ALTER TABLE completions ADD COLUMN deleted bigint;
ALTER TABLE completions ADD COLUMN replay_of text COLLATE "C";
