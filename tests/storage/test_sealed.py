"""Bodies encrypted at rest, on both engines: what lies in the database, and what is read back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.services.capture.spool import Spool
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.engines import open_database, open_sealed
from maniac_core.storage.sealed.database import SealedDatabase
from maniac_core.storage.stores.completions import CompletionStore

# The same in every process that collects the tests.
OLD, NEW = (base64.b64encode(byte * 32).decode() for byte in (b"o", b"n"))
Record = Callable[..., CompletionRecord]
ReadTable = Callable[[str], list[dict[str, Any]]]
_INPUT = b'{"messages":[{"role":"user","content":"a secret plan"}],"model":"m"}'
_OUTPUT = b'[{"index":0,"message":{"role":"assistant","content":"a secret answer"}}]'


@pytest.fixture
async def sealed(config: CoreConfig) -> AsyncIterator[SealedDatabase]:
    """Yield the database with one key."""
    database = open_sealed(config, OLD)
    await database.start()
    yield database
    await database.close()


async def _read(database: Database, caller: Caller, completion: str) -> tuple[Any, Any, Any]:
    store = CompletionStore(database)
    found = await store.get(caller.project, completion)
    detail = await store.explain(caller.project, completion)
    assert found is not None
    assert detail is not None
    return found, detail, (await store.inputs(caller.project, [completion]))[completion].body


async def test_nothing_of_a_body_lies_in_the_database(
    sealed: SealedDatabase, caller: Caller, make_record: Record, read_table: ReadTable
) -> None:
    """Request, answer and route are sealed, and read back as they were, wherever they are read."""
    record = make_record(input=_INPUT, output=_OUTPUT, route=b'{"secret":1}')
    await sealed.capture(record)
    [row] = read_table("SELECT * FROM completion_bodies")
    found, detail, request = await _read(sealed, caller, record.id)

    for column in ("input", "output", "route"):
        assert b"secret" not in row[column]
    assert request == _INPUT
    assert (detail.input, detail.route) == (_INPUT, b'{"secret":1}')
    assert found.output == _OUTPUT
    assert found.unreadable == ()


async def test_equal_content_is_known_by_its_hash_as_without_encryption(
    sealed: SealedDatabase, config: CoreConfig, make_record: Record, read_table: ReadTable
) -> None:
    """The ledger's hash is that of the content, not of what it is encrypted to."""
    plain = open_database(config, {})
    await plain.start()
    await plain.capture(make_record(input=_INPUT, output=_OUTPUT))
    await plain.close()
    await sealed.capture(make_record(input=_INPUT, output=_OUTPUT))

    assert len({bytes(row["content_hash"]) for row in read_table("SELECT * FROM completions")}) == 1


async def test_keys_are_changed_without_losing_anything(
    sealed: SealedDatabase,
    config: CoreConfig,
    caller: Caller,
    make_record: Record,
    read_table: ReadTable,
) -> None:
    """What is plain or sealed with an older key is read, and can be sealed with the newest; then that alone will do."""
    plain = open_database(config, {})
    await plain.start()
    records = [make_record(input=_INPUT, output=_OUTPUT, route=None) for _ in range(3)]
    await plain.capture(records[0])
    await plain.close()
    await sealed.capture(records[1])
    both = open_sealed(config, f"{NEW}, {OLD}")
    await both.start()
    await both.capture(records[2])
    before = [(await _read(both, caller, record.id))[2] for record in records]
    counts = [await both.seal_all(), await both.seal_all()]
    await both.close()
    newest = open_sealed(config, NEW)
    await newest.start()
    after = [(await _read(newest, caller, record.id))[2] for record in records]
    await newest.close()

    assert before == after == [_INPUT] * 3
    assert counts == [2, 0]
    assert not any(
        b"secret" in row["input"] for row in read_table("SELECT * FROM completion_bodies")
    )


async def test_what_no_key_opens_is_shown_as_unreadable(
    sealed: SealedDatabase, config: CoreConfig, caller: Caller, make_record: Record
) -> None:
    """A lost key hides its own bodies; lists and everything else go on."""
    lost = make_record(input=_INPUT, output=_OUTPUT)
    await sealed.capture(lost)
    other = open_sealed(config, NEW)
    await other.start()
    kept = make_record(input=_INPUT, output=_OUTPUT)
    await other.capture(kept)
    page = Page(limit=10)
    listed = await CompletionStore(other).list(caller.project, CompletionFilter(), page)
    unsealed = await other.seal_all()
    await other.close()

    assert {one.id: one.unreadable for one in listed} == {lost.id: ("choices",), kept.id: ()}
    assert unsealed == 0


async def test_a_body_is_bound_to_its_completion(
    sealed: SealedDatabase, caller: Caller, make_record: Record, plain_sql: Any
) -> None:
    """One that was moved to another completion in the database does not pass for that one's."""
    first, second = make_record(input=_INPUT), make_record(input=_INPUT)
    for record in (first, second):
        await sealed.capture(record)
    plain_sql.execute(
        "UPDATE completion_bodies SET output = (SELECT output FROM completion_bodies ORDER BY seq LIMIT 1)"
    )
    found = [(await _read(sealed, caller, record.id))[0] for record in (first, second)]

    assert sorted(one.unreadable for one in found) == [(), ("choices",)]


@pytest.mark.parametrize("keys", ["hunter2", f"{OLD},", "00" * 31, f"{OLD},hunter2"])
def test_a_key_that_is_none_is_refused_unprinted(config: CoreConfig, keys: str) -> None:
    """The message says which one, and how to make one."""
    with pytest.raises(ConfigError, match="openssl rand -base64 32") as caught:
        open_database(config, {"MANIAC_BODY_KEY": keys})

    assert "hunter2" not in str(caught.value)


def test_keys_may_be_hex(config: CoreConfig) -> None:
    """As `openssl rand -hex 32` prints them."""
    assert isinstance(open_sealed(config, "ab" * 32), SealedDatabase)


async def test_records_that_wait_in_the_spool_are_sealed(
    sealed: SealedDatabase, caller: Caller, make_record: Record, tmp_path: Path
) -> None:
    """The file holds what the database would, and it is committed as such."""

    class Away(CompletionStore):
        is_away = True

        def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
            if not self.is_away:
                return super().capture(record)
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(StorageError("away"))
            return refused

    store = Away(sealed)
    spool = Spool(store, tmp_path / "spool", takes_records=True, seal=sealed.seal_record)
    record = make_record(input=_INPUT, output=_OUTPUT)
    await spool.capture(record)
    [file] = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    kept = file.read_bytes()
    store.is_away = False
    replaying = asyncio.create_task(spool.replay_forever())
    async with asyncio.timeout(20):
        while not spool.replayed:  # noqa: ASYNC110 - the spool has no event for it
            await asyncio.sleep(0.01)
    replaying.cancel()

    assert kept
    assert b"secret" not in kept
    assert base64.b64encode(_INPUT)[:16] not in kept
    assert (await _read(sealed, caller, record.id))[2] == _INPUT
