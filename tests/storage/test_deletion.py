"""A deleted completion leaves its numbers, and nothing of its content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import Attempt, CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.storage.stores.completions import CompletionStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
_EVERYTHING = CompletionFilter()


@pytest.fixture
async def pair(
    completions: CompletionStore,
    make_record: RecordFactory,
    make_attempt: Callable[..., Attempt],
    trace: Trace,
) -> tuple[CompletionRecord, CompletionRecord]:
    """Return two records that differ in their ids and texts only."""
    made = [
        make_record(
            trace=msgspec.structs.replace(trace, metadata=msgspec.Raw(b'{"t":"SECRET-%d"}' % n)),
            input=b'{"messages":[{"role":"user","content":"SECRET-%d"}]}' % n,
            output=b'[{"index":0,"message":{"role":"assistant","content":"SECRET-%d"}}]' % n,
            tags=("shared", f"SECRET-{n}"),
            metadata=b'{"env":"prod","own":"SECRET-%d"}' % n,
            error_message=f"SECRET-{n}",
            attempts=(make_attempt(error_message=f"SECRET-{n}"),),
        )
        for n in range(2)
    ]
    await asyncio.gather(*[completions.capture(record) for record in made])
    return made[0], made[1]


async def test_a_deleted_completion_is_in_no_list_and_no_count(
    completions: CompletionStore, pair: tuple[CompletionRecord, CompletionRecord], caller: Caller
) -> None:
    """Lists by every filter and their totals go on without it; a second deletion finds nothing."""
    gone, kept = pair
    assert await completions.delete(caller.project, gone.id)
    assert not await completions.delete(caller.project, gone.id)

    assert await completions.get(caller.project, gone.id) is None
    for selection in (
        _EVERYTHING,
        CompletionFilter(model=kept.model, container=kept.container),
        CompletionFilter(metadata=(("env", b'"prod"'),)),
        CompletionFilter(metadata=(("env", b'"prod"'), ("own", b'"SECRET-1"'))),
    ):
        assert await completions.count(caller.project, selection) == 1
        for ascending in (False, True):
            page = Page(ascending=ascending)
            found = await completions.list(caller.project, selection, page)
            assert [item.id for item in found] == [kept.id]


async def test_nothing_of_its_content_is_left_and_all_of_its_numbers(
    completions: CompletionStore,
    pair: tuple[CompletionRecord, CompletionRecord],
    caller: Caller,
    read_table: ReadTable,
) -> None:
    """No table has its texts; ledger, sums and attempts keep what it cost."""
    gone, _ = pair
    sums = ("usage_daily", "usage_tags_daily", "usage_tag_days", "traces")
    before = {table: read_table(f"SELECT * FROM {table}") for table in sums}
    await completions.delete(caller.project, gone.id)

    assert {table: read_table(f"SELECT * FROM {table}") for table in sums} == before
    for table in ("completions", "completion_bodies", "attempts"):
        rows = read_table(f"SELECT * FROM {table}")
        assert "SECRET-0" not in str(rows)
        assert "SECRET-1" in str(rows)
    detail = await completions.explain(caller.project, gone.id)
    assert detail is not None
    assert detail.completion.usage == gone.usage
    assert detail.completion.spend_nano_usd == gone.spend_nano_usd
    assert detail.attempts[0].spend_nano_usd == gone.attempts[0].spend_nano_usd
    assert (detail.input, detail.completion.output, detail.completion.tags) == (None, None, ())


async def test_only_the_project_itself_deletes(
    completions: CompletionStore, pair: tuple[CompletionRecord, CompletionRecord], caller: Caller
) -> None:
    """Another project's completion, one that is not listed, and one that never was, are not there."""
    assert not await completions.delete(caller.project + 1, pair[0].id)
    assert not await completions.delete(caller.project, "chatcmpl-never")
    unstored = msgspec.structs.replace(pair[0], id="chatcmpl-unstored", store=False)
    await completions.capture(unstored)
    assert not await completions.delete(caller.project, unstored.id)
    assert await completions.count(caller.project, _EVERYTHING) == 2


async def test_two_deletions_at_once_count_once(
    completions: CompletionStore,
    pair: tuple[CompletionRecord, CompletionRecord],
    caller: Caller,
    plain_sql: PlainSQL,
) -> None:
    """Whoever comes second has deleted nothing, and the totals fall by one."""
    with plain_sql.writing():
        deletions = [
            asyncio.ensure_future(completions.delete(caller.project, pair[0].id)) for _ in range(4)
        ]
        await asyncio.wait(deletions, timeout=0.2)
    outcomes = await asyncio.gather(*deletions)
    assert sorted(outcomes) == [False, False, False, True]
    assert await completions.count(caller.project, _EVERYTHING) == 1
