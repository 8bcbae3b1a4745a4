"""Usage reports add up to what was captured, however they are broken down."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import CompletionRecord, Status
from maniac_core.domain.usage import DIMENSIONS, Dimension, UsageSelection, UsageTotals
from maniac_core.services.limits.refusals import Refusals
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.queries import Dialect, Queries
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.usage import UsageStore

RecordFactory = Callable[..., CompletionRecord]
_DAY = 86_400
_FIRST = 20_000
_BROKEN: tuple[Status, ...] = ("failed", "truncated", "rejected")
_GROUPINGS = [
    by for size in range(len(DIMENSIONS) + 1) for by in itertools.combinations(DIMENSIONS, size)
]


@pytest.fixture
def usage_store(database: Database) -> UsageStore:
    return UsageStore(database)


@pytest.fixture
async def captured(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> list[CompletionRecord]:
    """Return records of three days, some without model, key, price, tokens or tags, and some of other projects."""
    chance = random.Random(11)
    records = [
        make_record(
            caller=msgspec.structs.replace(
                caller, project=chance.choice([7, 7, 7, 8]), key=chance.choice([None, 1])
            ),
            created=_FIRST * _DAY + chance.randrange(3 * _DAY),
            status=chance.choice(get_args(Status)),
            store=chance.random() > 0.2,
            model=chance.choice([None, "a/x", "a/y"]),
            container=None,
            usage=Usage(input_tokens=chance.choice([0, 5]), reasoning_tokens=chance.choice([0, 3])),
            spend_nano_usd=chance.choice([None, 0, 10**12 + 7]),
            tags=tuple(chance.choices(["a", "b", "ü", ""], k=chance.randrange(4))),
        )
        for _ in range(150)
    ]
    for start in range(0, len(records), 29):
        await asyncio.gather(*map(completions.capture, records[start : start + 29]))
    return records


def _tags(record: CompletionRecord) -> set[str]:
    return ({tag for tag in record.tags if tag} if record.store else set()) or {""}


def _sums(records: list[CompletionRecord]) -> UsageTotals:
    statuses = Counter(record.status for record in records)
    return UsageTotals(
        requests=len(records),
        successes=statuses["completed"] + statuses["registered"],
        errors=sum(statuses[status] for status in _BROKEN),
        unknown=statuses["unknown"],
        usage=Usage(
            input_tokens=sum(record.usage.input_tokens for record in records),
            reasoning_tokens=sum(record.usage.reasoning_tokens for record in records),
        ),
        spend_nano_usd=sum(record.spend_nano_usd or 0 for record in records),
        unpriced=sum(
            record.spend_nano_usd is None and record.usage.total_tokens > 0 for record in records
        ),
    )


def _expected(
    records: list[CompletionRecord], by: tuple[Dimension, ...]
) -> list[tuple[tuple[Any, ...], UsageTotals]]:
    groups: dict[tuple[Any, ...], list[CompletionRecord]] = {}
    for record in records:
        for tag in _tags(record) if "tag" in by else {""}:
            values = {
                "day": -(record.created // _DAY),
                "model": record.model or "",
                "container": "",
                "key": "",
                "tag": tag,
            }
            groups.setdefault(tuple(values[name] for name in by), []).append(record)
    return [(names, _sums(group)) for names, group in sorted(groups.items())]


def _selection(**changes: Any) -> UsageSelection:
    fields = {"first_day": date(1970, 1, 1) + timedelta(_FIRST), "last_day": date(2100, 1, 1)}
    return UsageSelection(**{**fields, **changes})


async def test_groups_add_up_in_every_breakdown(
    captured: list[CompletionRecord], usage_store: UsageStore, caller: Caller
) -> None:
    """Each group has the sums of its requests, the newest day first, and the totals count each request once."""
    ours = [record for record in captured if record.caller.project == caller.project]
    for by in _GROUPINGS:
        report = await usage_store.report(caller, _selection(), by, limit=1000, skip=0)
        found = []
        for group in report.groups:
            names = [getattr(group, name) for name in by]
            if "day" in by:
                names[0] = -(names[0] - date(1970, 1, 1)).days
            assert all(getattr(group, name) is None for name in DIMENSIONS if name not in by)
            found.append((tuple(names), group.totals))
        assert found == _expected(ours, by), by
        assert report.total_groups == len(found)
        assert report.totals == _sums(ours)


async def test_filters_select_requests(
    captured: list[CompletionRecord], usage_store: UsageStore, caller: Caller
) -> None:
    """By days, model, key and tag, alone and together, in groups and totals."""
    ours = [record for record in captured if record.caller.project == caller.project]
    second = date(1970, 1, 1) + timedelta(_FIRST + 1)
    cases: list[tuple[dict[str, Any], Callable[[CompletionRecord], bool]]] = [
        (
            {"first_day": second, "last_day": second},
            lambda record: record.created // _DAY == _FIRST + 1,
        ),
        ({"model": "a/x"}, lambda record: record.model == "a/x"),
        ({"key": 1}, lambda record: record.caller.key == 1),
        ({"tag": "ü"}, lambda record: "ü" in _tags(record)),
        (
            {"tag": "a", "model": "a/y", "first_day": second},
            lambda record: (
                "a" in _tags(record) and record.model == "a/y" and record.created // _DAY > _FIRST
            ),
        ),
        ({"tag": "nobody"}, lambda _: False),
    ]
    for filters, matches in cases:
        selected = [record for record in ours if matches(record)]
        report = await usage_store.report(
            caller, _selection(**filters), ("model",), limit=1000, skip=0
        )
        assert report.totals == _sums(selected), filters
        assert [group.totals for group in report.groups] == [
            sums for _, sums in _expected(selected, ("model",))
        ]


async def test_a_filter_by_tag_groups_by_that_tag_alone(
    captured: list[CompletionRecord], usage_store: UsageStore, caller: Caller
) -> None:
    """The other tags of the selected requests are no groups."""
    ours = [record for record in captured if record.caller.project == caller.project]
    report = await usage_store.report(caller, _selection(tag="a"), ("tag",), limit=1000, skip=0)
    assert [(group.tag, group.totals) for group in report.groups] == [
        ("a", _sums([record for record in ours if "a" in _tags(record)]))
    ]


async def test_pages_follow_each_other(
    captured: list[CompletionRecord], usage_store: UsageStore, caller: Caller
) -> None:
    """All pages together are the whole report, and every page knows how many groups there are."""
    assert captured
    by: tuple[Dimension, ...] = ("tag", "day", "model")
    whole = await usage_store.report(caller, _selection(), by, limit=1000, skip=0)
    paged = []
    for skip in range(0, whole.total_groups + 5, 5):
        page = await usage_store.report(caller, _selection(), by, limit=5, skip=skip)
        assert (page.total_groups, page.totals) == (whole.total_groups, whole.totals)
        paged += page.groups
    assert paged == whole.groups


async def test_long_and_strange_tags_are_captured(
    completions: CompletionStore,
    make_record: RecordFactory,
    usage_store: UsageStore,
    caller: Caller,
) -> None:
    """A tag of any length and with any character costs nobody a record."""
    await completions.capture(
        make_record(created=_FIRST * _DAY, tags=("x" * 10_000, "a\0b", "'; DROP TABLE budgets"))
    )
    report = await usage_store.report(caller, _selection(), ("tag",), limit=1000, skip=0)
    assert [group.tag for group in report.groups] == [
        "'; DROP TABLE budgets",
        "a\N{REPLACEMENT CHARACTER}b",
        "x" * 256,
    ]


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_reports_never_read_the_ledger(dialect: Dialect) -> None:
    """What a report costs does not grow with the number of requests of a day."""
    queries = Queries.load(dialect)
    names = [name for name in queries.names() if re.match(r"(list|count|sum)_usage", name)]
    assert len(names) == 10
    for name in names:
        assert "usage_" in queries.text(name)
        assert not re.search(r"\b(completions|completion_\w+|attempts)\b", queries.text(name)), name


async def test_refusals_add_up_by_reason(database: Database, caller: Caller) -> None:
    """Over days and keys; those of other projects are not among them, and what cannot be written is kept."""
    store = UsageStore(database)
    refusals = Refusals(store)
    others = msgspec.structs.replace(caller, project=8)
    for one in (caller, msgspec.structs.replace(caller, key=6), others, caller):
        refusals.count(one, "rate_limit_exceeded")
    refusals.count(caller, "x" * 1000)
    today = datetime.now(UTC).date()
    selection = UsageSelection(first_day=today, last_day=today)
    assert await store.refused(caller, selection) == {}
    await refusals.flush()
    refusals.count(caller, "invalid_json")
    refusals.count(caller, "rate_limit_exceeded")
    await refusals.flush()
    await refusals.flush()
    assert await store.refused(caller, selection) == {
        "invalid_json": 1,
        "other": 1,
        "rate_limit_exceeded": 4,
    }
    assert await store.refused(others, selection) == {"rate_limit_exceeded": 1}
    of_key = msgspec.structs.replace(selection, key=6)
    assert await store.refused(caller, of_key) == {"rate_limit_exceeded": 1}
    refusals.count(caller, "invalid_json")
    await database.close()
    with pytest.raises(StorageError):
        await refusals.flush()
