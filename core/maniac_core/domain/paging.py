"""Which part of a list is wanted."""

from __future__ import annotations

import msgspec


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list is wanted."""

    limit: int = 20
    skip: int = 0
    after: str | None = None
    """Id of the last item of the page before."""
    ascending: bool = False
