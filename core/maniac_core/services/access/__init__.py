"""Access: keys, scopes, the audit of the configuration."""
