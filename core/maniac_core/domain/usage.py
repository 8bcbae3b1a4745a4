"""Usage reports: what is asked for, and the sums that answer it."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec

from maniac_core.domain.chat import Usage

Dimension = Literal["day", "model", "container", "key", "tag"]
DIMENSIONS: tuple[Dimension, ...] = ("day", "model", "container", "key", "tag")


class UsageSelection(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of a project that a report is about; all set fields must match."""

    first_day: date
    """UTC, included."""
    last_day: date
    """UTC, included."""
    model: str | None = None
    """A normalised slug."""
    container: int | None = None
    """The storage's key."""
    key: int | None = None
    """The storage's key."""
    tag: str | None = None


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over requests."""

    requests: int
    successes: int
    """Answered whole, or registered."""
    errors: int
    """Failed, refused or broken off; what callers cancelled is neither this nor that."""
    unknown: int
    """Of unknown outcome: their core was killed or is held up. Their spend is the most that they can have cost."""
    usage: Usage
    spend_nano_usd: int
    """Over the requests whose price is known."""
    unpriced: int
    """Requests that used tokens of an unknown price."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of a key were refused on a day for one reason. The integers are the storage's own keys."""

    day: int
    """Days since 1970."""
    organization: int
    project: int
    key: int
    """0: the internal service key."""
    code: str
    """The public `error.code`."""
    requests: int


class UsageGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a report; None in what it is not broken down by, an empty text for requests without any."""

    day: date | None = None
    model: str | None = None
    container: str | None = None
    """Label."""
    key: str | None = None
    """UUID."""
    tag: str | None = None
    totals: UsageTotals


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a report."""

    groups: list[UsageGroup]
    total_groups: int
    """On all pages."""
    totals: UsageTotals
    """Of all pages, each request once."""
    refused: dict[str, int] = {}
    """Requests without a record, which are in no group and no total, by public `error.code`."""
