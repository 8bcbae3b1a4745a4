"""The spool's file, cut off at every byte, and records that the database refuses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import CompletionRecord
from maniac_core.services.capture.spool import Spool
from maniac_core.services.capture.spool_file import SpoolFile, frame, read_lines
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.stores.completions import CompletionStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
_REFUSE = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON completions WHEN NEW.id = '{id}' BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    "postgres": (
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.id = '{id}' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER refuse BEFORE INSERT ON completions FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
}
_TAKE = {
    "sqlite": ("DROP TRIGGER refuse",),
    "postgres": ("DROP TRIGGER refuse ON completions", "DROP FUNCTION refuse()"),
}


class Store(CompletionStore):
    """Completions of a database that can be away, for all records or for some."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_away = False
        self.unsteady: set[str] = set()
        """Ids that fail as if the database were away."""

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record, or fail."""
        if not self.is_away and record.id not in self.unsteady:
            return super().capture(record)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StorageError("away"))
        return future


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maniac_core.services.capture.spool._RETRY_S", 0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@contextlib.asynccontextmanager
async def running(spool: Spool) -> AsyncIterator[None]:
    task = asyncio.create_task(spool.replay_forever())
    yield
    task.cancel()
    await asyncio.wait([task])


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if holds():
            return
        await asyncio.sleep(0.001)  # There is no event for what is on a disk.
    pytest.fail("it does not come true")


def bare(record: CompletionRecord) -> bytes:
    """Return a line as the version before frames wrote it."""
    return msgspec.json.encode(record) + b"\n"


def test_a_cut_at_any_byte_costs_the_record_it_cut(
    folder: Path, make_record: RecordFactory
) -> None:
    """Whatever was cut off, what was whole before it and what is added after it is read back."""
    first, cut, later = (make_record(trace=Trace(id="t")) for _ in range(3))
    file = SpoolFile(folder)
    file.append(first)
    start = file.waiting.stat().st_size
    whole = file.waiting.read_bytes() + frame(cut)
    for end in range(start, len(whole) + 1):
        file.waiting.write_bytes(whole[:end])
        file.append(later)
        read, offset = file.read(0)
        kept = [waiting.record for waiting in read.records]
        # The bracket and the line break may be missing of a whole record.
        is_whole = end >= len(whole) - len("]\n")
        assert kept == ([first, cut, later] if is_whole else [first, later]), whole[start:end]
        assert (read.torn, read.damaged) == (start < end and not is_whole, [])
        assert offset == file.waiting.stat().st_size


def test_a_cut_of_the_version_before_costs_the_record_it_cut(make_record: RecordFactory) -> None:
    """That version glued the next record to what it had cut off; both forms in one file are read."""
    first, cut, glued, later = (make_record() for _ in range(4))
    line = bare(cut)
    for end in range(1, len(line) - 1):
        lines = (bare(first) + line[:end] + bare(glued) + frame(later)).splitlines(keepends=True)
        read = read_lines(lines)
        assert [waiting.record for waiting in read.records] == [first, glued, later]
        assert read.torn == 1


def test_line_breaks_in_a_callers_json_break_no_line(
    folder: Path, make_record: RecordFactory
) -> None:
    """JSON is kept as the caller wrote it, which may be on several lines."""
    metadata = msgspec.Raw(b'{\r\n  "a": "b\\n",\n  "c": 1\n}')
    file = SpoolFile(folder)
    file.append(make_record(trace=Trace(id="t", metadata=metadata)))
    (waiting,) = file.read(0)[0].records
    assert waiting.record.trace is not None
    assert waiting.record.trace.metadata is not None
    assert msgspec.json.decode(waiting.record.trace.metadata) == {"a": "b\n", "c": 1}


def test_a_changed_byte_costs_the_record_it_is_in(make_record: RecordFactory) -> None:
    """A record that does not match its checksum is not believed, and not thrown away either."""
    first, second = make_record(), make_record()
    line = frame(first)
    changed = line.replace(b"openai/gpt-4o", b"openai/gpt-4p", 1)
    read = read_lines([changed, frame(second), b"something else altogether, and long\n"])
    assert [waiting.record for waiting in read.records] == [second]
    assert read.damaged == [changed, b"something else altogether, and long\n"]


def test_a_full_disk_leaves_nothing_behind(
    folder: Path, make_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could be written of a record is taken away again; the file belongs to its owner only."""
    file = SpoolFile(folder)
    first, second = make_record(), make_record()
    file.append(first)
    size = file.waiting.stat().st_size
    write = os.write

    def part(descriptor: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", part)
        with pytest.raises(OSError, match="No space left"):
            file.append(second)
    assert file.waiting.stat().st_size == size
    file.append(second)
    assert [waiting.record for waiting in file.read(0)[0].records] == [first, second]
    assert file.waiting.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 5, 400])
async def test_what_is_whole_is_committed_once(
    store: Store,
    folder: Path,
    make_record: RecordFactory,
    read_table: Callable[[str], list[dict[str, Any]]],
    cut: int,
) -> None:
    """Records that a dead core spooled, some of them committed already, with a torn one between them."""
    trace = Trace(id="t", metadata=msgspec.Raw(b'{"k": [1]}'))
    records = [make_record(trace=trace) for _ in range(5)]
    lines = [bare(records[0]), frame(make_record())[:cut], b"\n", *map(frame, records[1:4])]
    (folder / "records.jsonl").write_bytes(b"".join(lines))
    await store.capture(records[1])
    spool = Spool(store, folder, takes_records=True)
    store.is_away = True
    kept = spool.capture(records[4])
    await kept
    async with running(spool):
        store.is_away = False
        await until(lambda: not (folder / "records.jsonl").exists())
    ids = sorted(row["id"] for row in read_table("SELECT id FROM completions"))
    assert ids == sorted(record.id for record in records)
    assert not (folder / "set-aside.jsonl").exists()


async def test_a_refused_record_is_set_aside_and_the_others_go_on(
    store: Store,
    folder: Path,
    make_record: RecordFactory,
    plain_sql: PlainSQL,
    engine: str,
) -> None:
    """It is answered like others, kept in a file, found there after a restart, and can be put back."""
    records = [make_record() for _ in range(5)]
    refused = records[2]
    for statement in _REFUSE[engine]:
        plain_sql.execute(statement.format(id=refused.id))
    try:
        spool = Spool(store, folder, takes_records=True)
        store.is_away = True
        await asyncio.gather(*map(spool.capture, records))
        store.is_away = False
        async with running(spool):
            await until(lambda: not (folder / "records.jsonl").exists())
        assert (spool.replayed, spool.set_aside) == (4, 1)
        known = await store.existing(7, [record.id for record in records])
        assert known == {record.id for record in records} - {refused.id}
        assert read_lines([(folder / "set-aside.jsonl").read_bytes()]).records[0].record == refused
        # A core that died before it removed the file sets nothing aside twice.
        SpoolFile(folder).waiting.write_bytes(b"".join(map(frame, records)))
        again = Spool(store, folder, takes_records=False)
        async with running(again):
            await until(lambda: not (folder / "records.jsonl").exists())
        assert again.set_aside == 1
    finally:
        for statement in _TAKE[engine]:
            plain_sql.execute(statement)
    (folder / "set-aside.jsonl").rename(folder / "records.jsonl")
    last = Spool(store, folder, takes_records=False)
    async with running(last):
        await until(lambda: not (folder / "records.jsonl").exists())
    assert await store.existing(7, [refused.id]) == {refused.id}
    assert last.set_aside == 0


async def test_a_record_that_only_ever_fails_is_set_aside_once_others_pass(
    store: Store, folder: Path, make_record: RecordFactory
) -> None:
    """What takes too long each time fails like a database that is away; others show that it is not."""
    bad, good = make_record(), make_record()
    store.unsteady.add(bad.id)
    commits = 0
    spool = Spool(store, folder, takes_records=True, commits=lambda: commits)
    async with running(spool):
        await spool.capture(bad)
        await asyncio.sleep(0.05)  # Long enough to be tried many times.
        assert (folder / "records.jsonl").exists(), "nothing shows that the database works"
        for _ in range(20):
            commits += 1
            await asyncio.sleep(0.005)
        await until(lambda: not (folder / "records.jsonl").exists())
        assert spool.set_aside == 1
        store.is_away = True
        await spool.capture(good)
        store.is_away = False
        await until(lambda: not (folder / "records.jsonl").exists())
    assert await store.existing(7, [bad.id, good.id]) == {good.id}


async def test_a_record_that_cannot_be_written_at_all_is_told(
    store: Store, folder: Path, make_record: RecordFactory
) -> None:
    """Neither in the database nor as JSON: its caller is told, and waits for nothing."""
    spool = Spool(store, folder, takes_records=True)
    store.is_away = True
    with pytest.raises(StorageError, match="neither"):
        await spool.capture(make_record(finish_reason="\ud800"))
    (folder / "records.jsonl").mkdir()
    with pytest.raises(StorageError, match="neither"):
        await spool.capture(make_record())


async def test_a_mistake_while_spooling_lets_nobody_wait_for_ever(
    store: Store, folder: Path, make_record: RecordFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for the record learns that it is not kept, the log says why, and the next one is."""
    store.is_away = True
    spool = Spool(store, folder, takes_records=True)
    async with asyncio.timeout(30):
        with pytest.raises(StorageError):
            # Of a type that no file takes.
            await spool.capture(msgspec.structs.replace(make_record(), created=object()))
        await spool.capture(make_record())
    assert "could not be spooled" in caplog.text
    assert spool.spooled == 1
