"""Budgets: what is reserved, spent and given back."""
