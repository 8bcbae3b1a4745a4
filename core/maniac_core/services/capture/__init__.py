"""One record for every outcome, and where it waits if the database is away."""
