"""Reading requests: bodies, forms, streams of items, ids in paths."""
