"""Who may do what: keys, scopes, the audit of the configuration."""
