"""The configuration of the core and its providers: tables, defaults, checks."""
