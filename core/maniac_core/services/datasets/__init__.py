"""Datasets: snapshots of captured completions by filter."""
