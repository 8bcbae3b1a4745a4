"""Scopes: what a key may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast, get_args

Scope = Literal["inference", "read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"inference", "read", "write"})
"""Of a key that is made without naming any."""
ALL_SCOPES: frozenset[Scope] = frozenset(SCOPES)


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of these names, with those that they include: `write` includes `read`, `admin` all.

    Raises:
        ValueError: one of the names is not a scope; the message lists them.
    """
    given = frozenset(names)
    unknown = given - ALL_SCOPES
    if unknown:
        raise ValueError(f"unknown scope {min(unknown)!r}; choose from {', '.join(SCOPES)}")
    if "admin" in given:
        return ALL_SCOPES
    if "write" in given:
        given |= {"read"}
    return frozenset(cast(Iterable[Scope], given))
