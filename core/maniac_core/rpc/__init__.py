"""One servicer per proto service, and the conversion between proto messages and domain values."""
