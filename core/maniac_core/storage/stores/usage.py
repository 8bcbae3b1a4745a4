"""Usage reports, read from the daily sums that every capture adds to; the ledger is never scanned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.usage import (
    DIMENSIONS,
    Dimension,
    Refused,
    UsageGroup,
    UsageReport,
    UsageSelection,
    UsageTotals,
)
from maniac_core.storage.base import Database, Params, Row, Statement

_EPOCH = date(1970, 1, 1)
_ORDER = ("first", "second", "third", "fourth")
_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


class UsageStore:
    """Sums of all projects; every method sees the caller's only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_key(self, caller: Caller, key_id: str) -> int | None:
        """Return the storage's key of the project's API key of that id."""
        row = await self._database.fetch_one(
            "find_key_of_project", {"key": key_id, "project": caller.project}
        )
        return None if row is None else int(row["id"])

    async def add_refusals(self, refusals: Sequence[Refused]) -> None:
        """Add to what was refused."""
        await self._database.write(
            [Statement("add_refusals", msgspec.structs.asdict(one)) for one in refusals]
        )

    async def refused(self, caller: Caller, selection: UsageSelection) -> dict[str, int]:
        """Return how many requests were refused without a record, by code: of a model, container or tag none is."""
        if selection.model or selection.container is not None or selection.tag is not None:
            return {}
        params = _params(caller, selection)
        rows = await self._database.fetch_all(
            "sum_refusals",
            {name: params[name] for name in ("project", "first_day", "last_day", "key")},
        )
        return {row["code"]: int(row["requests"]) for row in rows}

    async def report(
        self,
        caller: Caller,
        selection: UsageSelection,
        by: Sequence[Dimension],
        *,
        limit: int,
        skip: int,
    ) -> UsageReport:
        """Return a page of groups: the newest day first, then by the other dimensions in their order, ascending."""
        params = _params(caller, selection)
        dimensions = {f"by_{name}": int(name in by) for name in DIMENSIONS}
        order = dict.fromkeys(_ORDER, "") | dict(
            zip(_ORDER, [name for name in by if name != "day"], strict=False)
        )
        requests = "" if selection.tag is None else "_of_tag"
        groups = _groups(selection, by) if "tag" in by and selection.tag is None else requests
        rows = await self._database.fetch_all(
            f"list_usage{groups}",
            {**params, **dimensions, **order, "limit": limit, "skip": skip},
        )
        count = await self._database.fetch_one(f"count_usage{groups}", {**params, **dimensions})
        totals = await self._database.fetch_one(f"sum_usage{requests}", params)
        assert count is not None
        assert totals is not None
        return UsageReport(
            groups=[_group(row, by) for row in rows],
            total_groups=int(count["total"]),
            totals=_totals(totals),
            refused=await self.refused(caller, selection),
        )


def _groups(selection: UsageSelection, by: Sequence[Dimension]) -> str:
    """Return which sums a report of all tags is made from: the coarse ones, if they say all that is asked for."""
    is_selected = (selection.model, selection.container, selection.key) != (None, None, None)
    return "_of_tags" if is_selected or not set(by) <= {"tag", "day"} else "_of_tag_days"


def _params(caller: Caller, selection: UsageSelection) -> Params:
    params: dict[str, Any] = {
        "organization": caller.organization,
        "project": caller.project,
        "first_day": (selection.first_day - _EPOCH).days,
        "last_day": (selection.last_day - _EPOCH).days,
        "model": selection.model,
        "container": selection.container,
        "key": selection.key,
    }
    if selection.tag is not None:
        params["tag"] = selection.tag
    return params


def _group(row: Row, by: Sequence[Dimension]) -> UsageGroup:
    return UsageGroup(
        day=_EPOCH + timedelta(days=row["day"]) if "day" in by else None,
        model=row["model"] if "model" in by else None,
        container=row["container"] if "container" in by else None,
        key=row["key_id"] if "key" in by else None,
        tag=row["tag"] if "tag" in by else None,
        totals=_totals(row),
    )


def _totals(row: Row) -> UsageTotals:
    # Sums of integers are decimals with some engines.
    tokens: dict[str, Any] = {name: int(row[name]) for name in _TOKENS}
    return UsageTotals(
        requests=int(row["requests"]),
        successes=int(row["successes"]),
        errors=int(row["errors"]),
        unknown=int(row["unknown"]),
        usage=Usage(**tokens),
        spend_nano_usd=int(row["spend_nano_usd"]),
        unpriced=int(row["unpriced"]),
    )
