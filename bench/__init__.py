"""Measures the gateway; run the modules from the working tree, `python -m bench.run`."""
