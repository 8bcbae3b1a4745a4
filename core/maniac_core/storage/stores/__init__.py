"""One store per resource: what the statements mean."""
