"""What `serve` is made of: its children, their ports and environment, and what it prints."""
