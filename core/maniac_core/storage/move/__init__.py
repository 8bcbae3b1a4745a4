"""`migrate --to`: an install from SQLite to PostgreSQL."""
