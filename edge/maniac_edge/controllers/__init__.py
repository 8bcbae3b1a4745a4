"""HTTP handlers, one module per resource; they read, convert, call the core and answer."""
