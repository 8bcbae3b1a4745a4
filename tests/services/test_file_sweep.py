"""What is left in the object store by uploads that never ended: found, told apart from what is in use, and freed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError
from maniac_core.domain.files import File
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.access.keys import KeyService
from maniac_core.services.files.files import FileService
from maniac_core.services.files.sweep import Sweeper
from maniac_core.services.limits.quotas import Quotas
from maniac_core.storage.base import Database
from maniac_core.storage.object_store import ObjectStore, open_objects
from maniac_core.storage.sqlite.database import SQLiteDatabase
from maniac_core.storage.sqlite.migrate import migrate
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.files import FileStore
from maniac_core.storage.stores.keys import KeyStore

HOUR_S = 3600
PART = b"x" * (9 * 1024 * 1024)
"""More than is held in memory before it is written."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    database = SQLiteDatabase(tmp_path / "gateway.db")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_objects(CoreConfig(data_dir=tmp_path), {})


@pytest.fixture
def store(database: Database) -> FileStore:
    return FileStore(database)


@pytest.fixture
def sweeper(store: FileStore, objects: ObjectStore) -> Sweeper:
    return Sweeper(store, objects)


@pytest.fixture
def files(
    database: Database, store: FileStore, objects: ObjectStore, sweeper: Sweeper
) -> FileService:
    quotas = Quotas(CoreConfig(), CompletionStore(database), store)
    return FileService(store, objects, sweeper, max_bytes=2**30, quotas=quotas)


@pytest.fixture
async def caller(database: Database) -> Caller:
    keys = KeyStore(database)
    await KeyService(keys).create(name="a key", project="default")
    caller = await keys.find_project("default")
    assert caller is not None
    return caller


@contextlib.contextmanager
def no_folder(folder: Path) -> Iterator[None]:
    """Put something in the folder's place."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_text("no folder")
    yield
    folder.unlink()
    away.rename(folder)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_what_a_dead_process_left_is_freed_when_it_is_old(
    store: FileStore, sweeper: Sweeper, folder: Path
) -> None:
    """Parts of an object, and objects that no file came to own, go after some minutes and not before."""
    unfinished, finished, young = uuid_id(), uuid_id(), uuid_id()
    await store.begin(unfinished, now_s() - HOUR_S)
    await store.begin(finished, now_s() - HOUR_S)
    await store.begin(young, now_s() - 60)
    (folder / f"{unfinished}#1").write_bytes(PART)
    (folder / finished).write_bytes(PART)
    (folder / young).write_bytes(PART)
    (folder / "of somebody else").touch()

    await sweeper.sweep(now_s())

    assert sorted(names(folder)) == sorted([young, "of somebody else"])
    assert await store.unowned(now_s() + 1) == [young]


async def test_an_upload_that_runs_is_not_swept_by_others(
    files: FileService, store: FileStore, objects: ObjectStore, sweeper: Sweeper, caller: Caller
) -> None:
    """However slow it is, as long as its own process lives."""
    other = Sweeper(store, objects)
    async with files.upload(caller) as upload:
        upload.describe("a", "p")
        for minutes in range(0, 60, 2):
            now = now_s() + 60 * minutes
            await sweeper.sweep(now)
            await other.sweep(now + 60)
        await upload.write(b"abc")
        file = await upload.finish(3)

    assert [each async for each in files.read(file, 0, 3)] == [b"abc"]


async def test_an_upload_that_was_taken_for_dead_stores_nothing(
    files: FileService, store: FileStore, objects: ObjectStore, caller: Caller, folder: Path
) -> None:
    """If its process could not say that it lives, the upload fails rather than keep a record without bytes."""
    async with files.upload(caller) as upload:
        upload.describe("a", "p")
        await upload.write(PART)
        await Sweeper(store, objects).sweep(now_s() + HOUR_S)
        with pytest.raises(GatewayError) as caught:
            await upload.finish(len(PART))

    assert caught.value.code == "dependency_unavailable"
    assert await files.list(caller, None, Page()) == ([], 0)
    assert await store.unowned(now_s() + HOUR_S) == []
    assert [name for name in names(folder) if "#" in name] == []


async def test_a_caller_that_leaves_at_the_last_moment_breaks_no_file(
    files: FileService,
    store: FileStore,
    sweeper: Sweeper,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit that is under way when the call is cancelled makes a whole file."""
    committing = asyncio.Event()
    add = FileStore.add

    async def observed(self: FileStore, project: int, file: File) -> bool:
        committing.set()
        return await add(self, project, file)

    monkeypatch.setattr(FileStore, "add", observed)

    async def send() -> None:
        async with files.upload(caller) as upload:
            upload.describe("a", "p")
            await upload.write(b"abc")
            await upload.finish(3)

    call = asyncio.create_task(send())
    await committing.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # Begun and dropped after the first, this one is written and freed after it.
    async with files.upload(caller) as upload:
        await upload.write(PART)
    (file,), total = await files.list(caller, None, Page())
    rounds = asyncio.create_task(sweeper.run())
    async with asyncio.timeout(60):
        while await store.unowned(now_s() + HOUR_S):  # noqa: ASYNC110 - a row of a table
            await asyncio.sleep(0)
    rounds.cancel()

    assert total == 1
    assert [each async for each in files.read(file, 0, 3)] == [b"abc"]


async def test_a_store_that_is_down_frees_later(
    files: FileService, store: FileStore, sweeper: Sweeper, caller: Caller, folder: Path
) -> None:
    """A deleted file's bytes wait for the store to come back."""
    async with files.upload(caller) as upload:
        upload.describe("a", "p")
        file = await upload.finish(0)
    await files.delete(caller, file.id)
    with no_folder(folder):
        await sweeper.sweep(now_s() + HOUR_S)
    assert names(folder) == [file.id]

    await sweeper.sweep(now_s() + HOUR_S)
    assert names(folder) == []
    assert await store.unowned(now_s() + HOUR_S) == []
