"""One record for every outcome, and its storage while the database is down."""
