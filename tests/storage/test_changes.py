"""Every process learns within a second what another one changed."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import Database
from maniac_core.storage.sqlite.watcher import Watcher
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore

_REVOKE = """
import asyncio, pathlib, sys, time
from maniac_core.config.core import CoreConfig
from maniac_core.storage import open_database
from maniac_core.storage.stores.keys import KeyStore

async def main():
    database = open_database(
        CoreConfig(database_url=sys.argv[1], data_dir=pathlib.Path(sys.argv[2]))
    )
    await database.start()
    await KeyStore(database).revoke(sys.argv[3], 1)
    print(time.time())
    await database.close()

asyncio.run(main())
"""


@pytest.fixture
async def changes(
    open_database: Callable[[], Database],
) -> AsyncIterator[asyncio.Queue[frozenset[str]]]:
    """Yield what a second opener of the data is told."""
    told: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    other = open_database()
    other.on_change(told.put_nowait)
    await other.start()
    yield told
    await other.close()


async def test_a_new_key_names_all_three_tables(
    changes: asyncio.Queue[frozenset[str]], keys: KeyStore
) -> None:
    """A key that makes its project and organization changes three cached tables."""
    await keys.create(name="n", secret_hash=b"1", prefix="mk-1", project="p", organization="o")
    assert await changes.get() == {"api_keys", "projects", "organizations"}


async def test_a_revocation_reaches_another_process_within_a_second(
    changes: asyncio.Queue[frozenset[str]], keys: KeyStore, config: CoreConfig
) -> None:
    """From the return of the revocation in one process to the notice in another it takes less than a second."""
    took_s: list[float] = []
    # A busy machine may be late, but not always.
    while len(took_s) < 5 and not any(seconds < 1 for seconds in took_s):
        prefix = f"mk-{len(took_s)}"
        secret_hash = prefix.encode()
        await keys.create(
            name="n", secret_hash=secret_hash, prefix=prefix, project="p", organization="o"
        )
        await changes.get()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _REVOKE, config.database_url, str(config.data_dir), prefix),
            stdout=asyncio.subprocess.PIPE,
        )
        assert await changes.get() == {"api_keys"}
        noticed = time.time()
        output, _ = await process.communicate()
        assert process.returncode == 0
        row = await keys.resolve(secret_hash)
        assert row is not None
        assert row.revoked == 1
        took_s.append(noticed - float(output))

    assert min(took_s) < 1


async def test_captures_are_no_change(
    changes: asyncio.Queue[frozenset[str]],
    keys: KeyStore,
    completions: CompletionStore,
    make_record: Callable[..., CompletionRecord],
) -> None:
    """Only what processes keep in memory is told: a capture before a new key adds nothing to its notice."""
    await completions.capture(make_record())
    await keys.create(name="n", secret_hash=b"1", prefix="mk-1", project="p", organization="o")
    assert await changes.get() == {"api_keys", "projects", "organizations"}
    assert changes.empty()


def test_a_mistake_of_sqlites_watcher_is_made_good(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread goes on and gives the notice that failed again; the log says what happened."""
    versions = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    versions.executescript("CREATE TABLE seen (name, version); INSERT INTO seen VALUES ('a', 1)")
    mistakes = [AttributeError("odd")]
    told: queue.Queue[object] = queue.Queue()

    def notify(names: frozenset[str]) -> None:
        if mistakes:
            raise mistakes.pop()
        told.put(names)

    polling = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    watcher = Watcher(polling, "SELECT name, version FROM seen", notify, told.put)
    versions.execute("UPDATE seen SET version = 2")
    watcher.start()
    assert [told.get(timeout=30) for _ in range(3)] == [False, frozenset({"a"}), True]
    watcher.close()
    versions.close()
    assert "cannot be read" in caplog.text
