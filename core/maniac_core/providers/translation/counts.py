"""Counts and costs as providers report them: what could not be true counts as not reported.

That is anything but a whole number from 0 to `MAX_TOKENS`, or an amount from 0 to `MAX_COST_USD`: text, booleans,
negative numbers, and numbers that no sum could hold. `10.0` is the whole number it looks like.
"""

from __future__ import annotations

from typing import Any

MAX_TOKENS = 1_000_000_000
"""Of one count. Far above every context window, and low enough for sums over millions of answers."""
MAX_COST_USD = 100_000.0
"""Of one answer."""


def token_count(value: Any) -> int | None:
    """Return a count; None: not reported."""
    if value.__class__ is not int:
        if value.__class__ is not float or not value.is_integer():
            return None
        value = int(value)
    return value if 0 <= value <= MAX_TOKENS else None


def amount_usd(value: Any) -> float | None:
    """Return a cost in USD; None: not reported."""
    is_amount = value.__class__ in (int, float) and 0 <= value <= MAX_COST_USD
    return float(value) if is_amount else None


def service_tier_of(value: Any) -> str | None:
    """Return a class of service with prices of its own; None: the standard one, or no name of one."""
    if not isinstance(value, str) or value in _STANDARD_TIERS or len(value) > _LONGEST_TIER:
        return None
    return value if value.isascii() and value.isprintable() else None


_STANDARD_TIERS = frozenset({"", "auto", "default", "standard"})
_LONGEST_TIER = 64
