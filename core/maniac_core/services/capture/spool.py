"""The spool: where records wait that the database could not take, when the operator chose availability.

With `durability = "available"` a record that cannot be committed is written to a local file before its answer is
delivered, and committed from there once the database is back; its id makes sure that this happens once. A record that
the database takes at no time is set aside, so that it holds up none of the others.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from maniac_core.domain.completions import CompletionRecord
from maniac_core.services.capture.spool_file import SpoolFile, Waiting
from maniac_core.storage.base import ConstraintError, RefusedError, StorageError
from maniac_core.storage.stores.completions import CompletionStore

_log = logging.getLogger(__name__)
_RETRY_S = 1.0
# How often a record may fail for no clear reason, while the database takes others, until it is given up.
_MOST_FAILURES = 10


class Recorder(Protocol):
    """Takes records; the future is done once one is durable, and raises StorageError if it cannot be."""

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record."""


class Spool:
    """A Recorder that falls back to a file in its folder."""

    def __init__(
        self,
        store: CompletionStore,
        folder: Path,
        *,
        takes_records: bool,
        commits: Callable[[], int] = lambda: 0,
        seal: Callable[[CompletionRecord], CompletionRecord] | None = None,
    ) -> None:
        """`takes_records`: False only commits what an earlier run left behind.

        `commits`: how many transactions the database has committed so far, whosever they are.
        `seal` encrypts what of a record must not lie on the disk as it is.
        """
        self.spooled = 0
        """How many records went to the file since the start."""
        self.replayed = 0
        """How many of the file are committed since the start."""
        self.set_aside = 0
        """How many records lie aside, those of earlier runs included."""
        self._store = store
        self._file = SpoolFile(folder)
        self._takes_records = takes_records
        self._commits = commits
        self._seal = seal
        self._commits_seen = 0
        self._lock = asyncio.Lock()
        self._settling: set[asyncio.Task[None]] = set()
        self._block: list[Waiting] = []
        """The part of the file that is being committed."""
        self._offset = 0
        """Up to where the file is done with. Only memory knows: a record that is tried again is committed once."""
        self._block_end = 0
        self._is_failing = False

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record, in the database or else in the file."""
        if self._seal is not None:
            record = self._seal(record)
        committed = self._store.capture(record)
        if not self._takes_records:
            return committed
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        committed.add_done_callback(functools.partial(self._settle, record, kept))
        return kept

    async def close(self) -> None:
        """Wait until all that was refused at the end is in the file."""
        if self._settling:
            await asyncio.wait(self._settling)

    async def replay_forever(self) -> None:
        """Commit what waits in the file, as soon as the database takes it."""
        self.set_aside = await asyncio.to_thread(self._file.count_set_aside)
        if self.set_aside:
            self._say_what_lies_aside()
        while True:
            try:
                while self._file.waiting.exists() and await self._replay():
                    pass
                self._is_failing = False
            except OSError as err:
                if not self._is_failing:
                    _log.error("the spool cannot be read or written: %s", err)
                self._is_failing = True
            await asyncio.sleep(_RETRY_S)

    def _settle(
        self, record: CompletionRecord, kept: asyncio.Future[None], committed: asyncio.Future[None]
    ) -> None:
        error = committed.exception()
        if error is None:
            if not kept.done():
                kept.set_result(None)
        elif isinstance(error, StorageError) and not isinstance(error, ConstraintError):
            task = asyncio.ensure_future(self._spool(record, kept))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        elif not kept.done():
            kept.set_exception(error)

    async def _spool(self, record: CompletionRecord, kept: asyncio.Future[None]) -> None:
        try:
            async with self._lock:
                await asyncio.to_thread(self._file.append, record)
        except Exception as err:  # noqa: BLE001 - told to whoever waits for the record
            if not isinstance(err, OSError | ValueError):
                _log.exception("a record could not be spooled")
            reason = err.strerror if isinstance(err, OSError) else err
            if not kept.done():
                kept.set_exception(StorageError(f"neither database nor spool: {reason}"))
            return
        self.spooled += 1
        _log.warning("a record waits in the spool: the database does not take it")
        if not kept.done():
            kept.set_result(None)

    async def _replay(self) -> bool:
        """Commit a part of the file; return whether to go on at once."""
        if not self._block and not await self._read_block():
            return False
        while self._block:
            before = len(self._block)
            await self._commit_block()
            if len(self._block) == before:
                # The database is away, or what is left is tried again later.
                return False
        self._offset = self._block_end
        return True

    async def _read_block(self) -> bool:
        """Read the next part of the file; remove the file and return False when there is none."""
        # No append runs meanwhile, so that a part of a line is one that was cut off.
        async with self._lock:
            read, self._block_end = await asyncio.to_thread(self._file.read, self._offset)
            if self._block_end == self._offset:
                await asyncio.to_thread(self._file.remove)
                self._offset = self._block_end = 0
                return False
        if read.torn:
            _log.warning(
                "%d records were cut off while they were spooled, and are dropped", read.torn
            )
        if read.damaged:
            await self._set_aside(read.damaged)
        self._block = read.records
        return True

    async def _commit_block(self) -> None:
        """Commit what can be committed of the block; what fails without a clear reason stays in it."""
        results = await asyncio.gather(*(self._commit(waiting.record) for waiting in self._block))
        replayed = sum(error is None for error in results)
        # A failed transaction is none.
        is_working = replayed > 0 or self._commits() > self._commits_seen
        self._commits_seen = self._commits()
        left: list[Waiting] = []
        refused: list[bytes] = []
        for waiting, error in zip(self._block, results, strict=True):
            if error is None:
                continue
            waiting.failures += is_working
            if isinstance(error, RefusedError) or waiting.failures >= _MOST_FAILURES:
                refused.append(waiting.line)
                _log.error("the database refuses the record %s: %s", waiting.record.id, error)
            else:
                left.append(waiting)
        if refused:
            await self._set_aside(refused)
        if replayed:
            self.replayed += replayed
            _log.info("%d records of the spool are committed", replayed)
        self._block = left

    async def _commit(self, record: CompletionRecord) -> StorageError | None:
        try:
            await self._store.capture(record)
        except ConstraintError:
            # Committed before, by a process that died before it could say so here.
            return None
        except StorageError as err:
            return err
        except (TypeError, ValueError, LookupError) as err:
            return RefusedError(f"{type(err).__name__}: {err}")
        return None

    async def _set_aside(self, lines: list[bytes]) -> None:
        if added := await asyncio.to_thread(self._file.set_aside, lines):
            self.set_aside += added
            self._say_what_lies_aside()

    def _say_what_lies_aside(self) -> None:
        _log.error(
            "%d records that the database refuses are in %s: fix the cause, stop the core, "
            "append that file to %s, remove it, and start again",
            self.set_aside,
            self._file.refused,
            self._file.waiting.name,
        )
