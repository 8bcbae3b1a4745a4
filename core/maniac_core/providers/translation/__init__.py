"""Translation that the dialects share."""
