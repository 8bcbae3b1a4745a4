"""One provider as the services call it: keys, deadlines, failures."""
