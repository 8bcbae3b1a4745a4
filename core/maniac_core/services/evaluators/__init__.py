"""Evaluators: judges and code, stored and checked."""
