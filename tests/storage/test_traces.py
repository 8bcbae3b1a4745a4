"""Traces: what the store makes of the ledger, and what that costs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database
from maniac_core.storage.queries import Queries
from maniac_core.storage.stores import traces as module
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.traces import TraceStore

RecordFactory = Callable[..., CompletionRecord]
PROJECT = 7
_READS = {
    "find_trace": "SEARCH t USING PRIMARY KEY (project=? AND id=?)",
    "list_traces": "traces_newest (project=? AND (first_seen,first_seq,id)<(?,?,?))",
    "count_traces": "trace_counts USING INTEGER PRIMARY KEY",
    "list_trace_requests": "completions_trace (project=? AND trace_id=?)",
    "find_trace_context": "completions_trace (project=? AND trace_id=?)",
}


async def capture(completions: CompletionStore, *records: CompletionRecord) -> None:
    """Capture in order, each in a transaction of its own."""
    for record in records:
        await completions.capture(record)


async def test_traces_that_began_in_one_second_are_in_order(
    database: Database, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """The list goes by the ledger, newest first, also within a second and within one batch; `after` continues it."""
    ids = ["z", "a", "m", "b"]
    await asyncio.gather(
        *[completions.capture(make_record(created=5, trace=Trace(id=one))) for one in ids]
    )
    await capture(completions, make_record(created=5, trace=Trace(id="z")))
    store = TraceStore(database)
    whole = [trace.id for trace in await store.list(PROJECT, Page())]
    rest = [trace.id for trace in await store.list(PROJECT, Page(after="b", limit=2))]

    assert whole == ["b", "m", "a", "z"]
    assert rest == ["m", "a"]
    assert await store.list(PROJECT, Page(after="no such")) == []
    assert await store.count(PROJECT) == 4
    assert await store.count(PROJECT + 1) == 0


async def test_a_record_from_before_moves_the_beginning(
    database: Database, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """What is captured late counts from the time of its request."""
    await capture(
        completions,
        make_record(created=5, trace=Trace(id="late")),
        make_record(created=4, trace=Trace(id="other")),
        make_record(created=3, trace=Trace(id="late", span_id="s")),
    )
    store = TraceStore(database)
    found = await store.get(PROJECT, "late")

    assert found is not None
    assert (found.summary.first_seen, found.summary.last_seen) == (3, 5)
    assert [span.span_id for span in found.spans] == ["s", None]
    assert [trace.id for trace in await store.list(PROJECT, Page())] == ["other", "late"]


async def test_spans_are_bounded(
    database: Database,
    completions: CompletionStore,
    make_record: RecordFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many requests, spans and completions the last ones are returned; the trace's own count has no bound."""
    monkeypatch.setattr(module, "MAX_REQUESTS", 5)
    monkeypatch.setattr(module, "MAX_SPANS", 2)
    monkeypatch.setattr(module, "MAX_COMPLETION_IDS", 2)
    spans = ["gone", "old", "a", "b", "b", "b"]
    records = [
        make_record(id=f"c{number}", created=number, trace=Trace(id="t", span_id=span))
        for number, span in enumerate(spans)
    ]
    await capture(completions, *records)
    found = await TraceStore(database).get(PROJECT, "t")

    assert found is not None
    assert found.summary.requests == 6
    assert [(span.span_id, span.attempts) for span in found.spans] == [("a", 1), ("b", 3)]
    assert found.spans[1].completion_ids == ("c4", "c5")


@pytest.mark.parametrize("name", _READS)
def test_reads_of_traces_search(path: Path, name: str) -> None:
    """No read of traces walks a project's history."""
    queries = Queries.load("sqlite")
    params = {"project": 1, "id": "x", "trace": "x", "limit": 20, "skip": 0}
    sql, bound = queries.bind(name, {**params, "first_seen": 1, "first_seq": 1})
    connection = sqlite3.connect(path)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bound)]
    connection.close()

    assert any(_READS[name] in step for step in plan), plan
    assert [step for step in plan if step.startswith("SCAN") and step != "SCAN page"] == []
