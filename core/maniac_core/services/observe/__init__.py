"""Metrics and traces; imported only where they are configured."""
