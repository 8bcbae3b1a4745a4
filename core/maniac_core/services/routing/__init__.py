"""Which provider a model or container leads to."""
