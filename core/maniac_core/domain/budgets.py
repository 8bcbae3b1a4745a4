"""Budgets: how much an organization, a project or a key may spend in a period, and what is reserved of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

Period = Literal["day", "month", "total"]
OwnerKind = Literal["organization", "project", "key"]
NANO_PER_USD = 1_000_000_000
SECONDS_PER_DAY = 86_400


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A running request's reservation; its record releases it."""

    id: str
    amount_nano_usd: int
    windows: tuple[tuple[int, int], ...]
    """The periods it is reserved from: the storage's key of the budget, and the period's first second."""
    is_part: bool = False
    """Whether the reservation is for other requests as well."""
    is_rest: bool = False
    """Whether it is what no request took of a reservation for several."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The amount that may be spent."""

    nano_usd: int
    period: Period


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of the budget, by the storage's own keys. 0: all of them."""

    organization: int
    project: int = 0
    api_key: int = 0


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget and its running period."""

    kind: OwnerKind
    organization: str
    """Name."""
    project: str | None
    """Name. None: a budget of the whole organization."""
    key_id: str | None
    key_name: str | None
    limit: Limit
    spent_nano_usd: int
    """The charges of records, and the amount of unknown outcome."""
    reserved_nano_usd: int
    """The amount that running requests may still cost, and that cores have reserved in advance."""
    unknown_nano_usd: int
    """Reservations of cores that died or stalled: they count as spent unless a record says otherwise."""
    resets: int | None
    """Unix seconds of the end of the period. None: never."""


def period_starts(now: int) -> tuple[int, int]:
    """Return the first second of the UTC day and of the calendar month that hold `now` (Unix seconds)."""
    day = now - now % SECONDS_PER_DAY
    return day, day - (datetime.fromtimestamp(day, UTC).day - 1) * SECONDS_PER_DAY


def period_end(period: Period, start: int) -> int | None:
    """Return the Unix second at which the period that began with `start` ends; None: never."""
    match period:
        case "day":
            return start + SECONDS_PER_DAY
        case "month":
            first = datetime.fromtimestamp(start, UTC)
            following = first.replace(
                year=first.year + first.month // 12, month=first.month % 12 + 1
            )
            return int(following.timestamp())
        case "total":
            return None
