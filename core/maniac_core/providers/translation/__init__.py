"""What the dialects share when they translate."""
