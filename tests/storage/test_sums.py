"""What is summed while capturing equals the sum of the records."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import CompletionRecord, Status
from maniac_core.storage.base import ConstraintError
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
_DAY = 86_400
_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def _random_usage(chance: random.Random) -> Usage:
    counts: dict[str, Any] = {name: chance.randrange(1_000) for name in _TOKENS}
    return Usage(**counts)


@pytest.fixture
async def captured(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> list[CompletionRecord]:
    """Return records of every status, stored or not, over three days, captured in several batches."""
    chance = random.Random(9)
    records = [
        make_record(
            caller=msgspec.structs.replace(
                caller, key=chance.choice([None, 1, 2]), project=chance.choice([1, 2])
            ),
            created=20_000 * _DAY + chance.randrange(3 * _DAY),
            status=chance.choice(get_args(Status)),
            store=chance.random() > 0.3,
            model=chance.choice([None, "a/x", "a/y"]),
            provider=chance.choice([None, "a"]),
            container=chance.choice([None, 3]),
            usage=_random_usage(chance),
            spend_nano_usd=chance.choice([None, 0, 10**12 + 7]),
            trace=chance.choice([None, Trace(id="t1"), Trace(id="t2", name=f"n{_}")]),
        )
        for _ in range(200)
    ]
    for start in range(0, len(records), 23):
        await asyncio.gather(*map(completions.capture, records[start : start + 23]))
    return records


async def test_daily_usage_equals_the_sum_of_the_records(
    captured: list[CompletionRecord], read_table: ReadTable
) -> None:
    """By day, key, project, model, provider, container and status, every request counts exactly once."""
    expected: dict[tuple[Any, ...], Counter[str]] = {}
    for record in captured:
        key = (
            record.created // _DAY,
            record.caller.organization,
            record.caller.project,
            record.caller.key or 0,
            record.model or "",
            record.provider or "",
            record.container or 0,
            record.status,
        )
        sums = expected.setdefault(key, Counter())
        sums["requests"] += 1
        sums["spend_nano_usd"] += record.spend_nano_usd or 0
        sums["unpriced"] += record.spend_nano_usd is None
        for name in _TOKENS:
            sums[name] += getattr(record.usage, name)
    rows = read_table("SELECT * FROM usage_daily")
    names = (
        "day",
        "organization",
        "project",
        "api_key",
        "model",
        "provider",
        "container",
        "status",
    )
    actual = {
        tuple(row[name] for name in names): {
            name: value for name, value in row.items() if name not in names
        }
        for row in rows
    }
    assert actual.keys() == expected.keys()
    for key, sums in expected.items():
        assert actual[key] == {name: sums[name] for name in actual[key]}


async def test_traces_count_every_request(
    captured: list[CompletionRecord], read_table: ReadTable
) -> None:
    """A trace sums its requests, stored or not, and knows its first and last time and its containers."""
    traces = {(row["project"], row["id"]): row for row in read_table("SELECT * FROM traces")}
    containers = Counter(
        (row["project"], row["trace"]) for row in read_table("SELECT * FROM trace_containers")
    )
    by_trace: dict[tuple[int, str], list[CompletionRecord]] = {}
    for record in captured:
        if record.trace is not None:
            by_trace.setdefault((record.caller.project, record.trace.id), []).append(record)
    assert traces.keys() == by_trace.keys()
    for key, records in by_trace.items():
        row = traces[key]
        statuses = Counter(record.status for record in records)
        named = [r.trace.name for r in records if r.store and r.trace is not None and r.trace.name]
        assert row["requests"] == len(records)
        assert row["successes"] == statuses["completed"] + statuses["registered"]
        assert row["errors"] == statuses["failed"] + statuses["truncated"] + statuses["rejected"]
        assert row["first_seen"] == min(record.created for record in records)
        assert row["last_seen"] == max(record.created for record in records)
        assert row["spend_nano_usd"] == sum(record.spend_nano_usd or 0 for record in records)
        assert row["unpriced"] == sum(record.spend_nano_usd is None for record in records)
        assert row["name"] == (named[-1] if named else None)
        assert containers[key] == len({r.container for r in records if r.container is not None})


async def test_a_refused_record_is_in_no_sum(
    completions: CompletionStore, make_record: RecordFactory, read_table: ReadTable
) -> None:
    """A duplicate in the middle of a batch adds nothing, while its neighbours add once."""
    first = make_record()
    await completions.capture(first)
    batch = [make_record(), make_record(id=first.id), make_record()]
    results = await asyncio.gather(*map(completions.capture, batch), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ConstraintError, type(None)]
    assert read_table("SELECT sum(requests) AS n FROM usage_daily") == [{"n": 3}]
    assert read_table("SELECT sum(completions) AS n FROM completion_counts") == [{"n": 3}]
    assert read_table("SELECT count(*) AS n FROM completion_facets") == [{"n": 6}]
    assert read_table("SELECT sum(completions) AS n FROM facet_counts") == [{"n": 6}]
