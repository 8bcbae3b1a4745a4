"""Who follows a list, oldest first by the last id, sees every completion once, in whatever order they began."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]
_FILTERS = [
    CompletionFilter(),
    CompletionFilter(model="a/x"),
    CompletionFilter(container=21),
    CompletionFilter(container=21, model="a/x"),
    CompletionFilter(metadata=(("k", b"1"),)),
]


class _Follower:
    """Asks for what comes after the last item it saw, again and again."""

    def __init__(self, store: CompletionStore, project: int, selection: CompletionFilter) -> None:
        self.seen: list[str] = []
        self._store = store
        self._project = project
        self._selection = selection

    async def catch_up(self) -> None:
        """Read on until there is nothing new."""
        while True:
            after = self.seen[-1] if self.seen else None
            page = Page(limit=7, after=after, ascending=True)
            found = await self._store.list(self._project, self._selection, page)
            self.seen += [item.id for item in found]
            if not found:
                return


@pytest.fixture
async def writers(
    database: Database, open_database: Callable[[], Database]
) -> AsyncIterator[list[Database]]:
    """Two processes that write to the same data."""
    other = open_database()
    await other.start()
    yield [database, other]
    await other.close()


@pytest.mark.parametrize("selection", _FILTERS)
async def test_a_follower_misses_nothing_and_sees_nothing_twice(
    writers: list[Database], make_record: RecordFactory, caller: Caller, selection: CompletionFilter
) -> None:
    """Two processes write at once, some of it months old, while a third one follows."""
    chance = random.Random(7)
    follower = _Follower(CompletionStore(writers[0]), caller.project, selection)
    records = [
        make_record(
            created=now_s() - chance.choice([0, 1, 5, 40 * 86_400]),
            model="a/x",
            metadata=b'{"k":1}',
        )
        for _ in range(150)
    ]

    async def write(own: list[CompletionRecord], database: Database) -> None:
        for start in range(0, len(own), 3):
            await asyncio.gather(*map(database.capture, own[start : start + 3]))

    tasks = [
        asyncio.create_task(write(records[number::4], writers[number % 2])) for number in range(4)
    ]
    while not all(task.done() for task in tasks):
        await follower.catch_up()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    await follower.catch_up()

    assert len(follower.seen) == len(records)
    assert set(follower.seen) == {record.id for record in records}


async def test_what_is_committed_is_listed_at_once(
    writers: list[Database], make_record: RecordFactory, caller: Caller
) -> None:
    """The capture is over, and any process lists the completion last, whenever it began."""
    stores = [CompletionStore(database) for database in writers]
    for number in range(10):
        record = make_record(created=now_s() - number * 86_400)
        await stores[number % 2].capture(record)
        page = Page(limit=100, ascending=True)
        listed = await stores[1 - number % 2].list(caller.project, CompletionFilter(), page)
        assert listed[-1].id == record.id
        assert len(listed) == number + 1


@pytest.mark.parametrize("engine", ["postgres"])
async def test_what_a_slow_writer_may_still_add_is_waited_for(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller, postgres_url: str
) -> None:
    """A capture that took its position and is not over holds back what comes after it, until it ends."""
    first, second = make_record(), make_record()
    await completions.capture(first)
    page = Page(after=first.id, ascending=True)
    slow = await asyncpg.connect(postgres_url)
    try:
        await slow.execute("BEGIN; SELECT take_positions(1)")
        await completions.capture(second)
        assert await completions.list(caller.project, CompletionFilter(), page) == []
        [newest] = await completions.list(caller.project, CompletionFilter(), Page(limit=1))
        assert newest.id == second.id
        following = asyncio.ensure_future(
            completions.list(caller.project, CompletionFilter(), page)
        )
        await slow.execute("COMMIT")
        assert [item.id for item in await following] == [second.id]
    finally:
        await slow.close()
