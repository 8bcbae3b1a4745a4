"""Captured completions: lists, export, registration, traces, usage, retention."""
