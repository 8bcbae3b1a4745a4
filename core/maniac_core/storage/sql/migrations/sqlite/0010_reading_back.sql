-- Of a completion that was deleted, only numbers are left. A replay names the completion whose request it sent again.

ALTER TABLE completions ADD COLUMN deleted INTEGER;
ALTER TABLE completions ADD COLUMN replay_of TEXT;
