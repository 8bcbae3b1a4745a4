"""Amounts of money on the command line: decimal USD outside, integer nano-USD inside."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from maniac_core.cli.failures import UsageError
from maniac_core.domain.budgets import NANO_PER_USD


def parse_usd(text: str) -> int:
    """Return nano-USD of a decimal amount.

    Raises:
        UsageError: it is not a number, is negative, or is finer than a nano-USD.
    """
    try:
        nano = Decimal(text) * NANO_PER_USD
    except InvalidOperation:
        raise UsageError(f"{text}: not an amount of USD") from None
    if not nano.is_finite() or nano < 0 or nano != int(nano):
        raise UsageError(f"{text}: not an amount of USD")
    return int(nano)


def format_usd(nano_usd: int) -> str:
    """Return an amount with as many digits as it has, and at least two."""
    whole, fraction = divmod(abs(nano_usd), NANO_PER_USD)
    digits = f"{fraction:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano_usd < 0 else ''}{whole}.{digits}"
