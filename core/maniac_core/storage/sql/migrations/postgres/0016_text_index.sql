-- Nothing: here the index of texts is the server's own. It needs an extension, so it is made only where
-- `[core] text_index` asks for it.
SELECT 1;
