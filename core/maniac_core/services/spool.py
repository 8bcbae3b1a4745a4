"""The spool: where records wait that the database could not take, when the operator chose availability.

With `durability = "available"` a record that cannot be committed is written to a local file before its answer is
delivered, and committed from there once the database is back; its id makes sure that this happens once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from pathlib import Path
from typing import Protocol

import msgspec

from maniac_core.domain.records import CompletionRecord
from maniac_core.storage.base import ConstraintError, StorageError
from maniac_core.storage.completions import CompletionStore

_log = logging.getLogger(__name__)
_RETRY_S = 1.0
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CompletionRecord).decode


class Recorder(Protocol):
    """Takes records; the future is done once one is durable, and raises StorageError if it cannot be."""

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record."""


class Spool:
    """A Recorder that falls back to a file, `records.jsonl` in its folder: one record a line."""

    def __init__(self, store: CompletionStore, folder: Path, *, takes_records: bool) -> None:
        """`takes_records`: False only commits what an earlier run left behind."""
        self.spooled = 0
        """How many records went to the file since the start."""
        self.replayed = 0
        """How many of the file are committed since the start."""
        self._store = store
        self._path = folder / "records.jsonl"
        self._takes_records = takes_records
        self._lock = asyncio.Lock()
        self._settling: set[asyncio.Task[None]] = set()

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record, in the database or else in the file."""
        committed = self._store.capture(record)
        if not self._takes_records:
            return committed
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        committed.add_done_callback(functools.partial(self._settle, record, kept))
        return kept

    async def replay_forever(self) -> None:
        """Commit what waits in the file, as soon as the database takes it."""
        while True:
            if self._path.exists():
                async with self._lock:
                    await self._replay()
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
                await asyncio.to_thread(self._append, _encode(record) + b"\n")
        except OSError as err:
            if not kept.done():
                kept.set_exception(StorageError(f"neither database nor spool: {err.strerror}"))
            return
        self.spooled += 1
        _log.warning("a record waits in the spool: the database does not take it")
        if not kept.done():
            kept.set_result(None)

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    async def _replay(self) -> None:
        lines = (await asyncio.to_thread(self._path.read_bytes)).splitlines(keepends=True)
        done = 0
        for line in lines:
            try:
                record = _decode(line)
            except msgspec.DecodeError:
                # The last line of a process that died while it wrote: nobody was answered for it.
                _log.error("a line of the spool is no record and is dropped")
                done += 1
                continue
            try:
                await self._store.capture(record)
                self.replayed += 1
            except ConstraintError:
                # Committed before, by a process that died before it could say so here.
                pass
            except StorageError:
                break
            done += 1
        if done == len(lines):
            self._path.unlink()
        elif done:
            rest = self._path.with_suffix(".rest")
            await asyncio.to_thread(rest.write_bytes, b"".join(lines[done:]))
            rest.replace(self._path)
        if done:
            _log.info("%d records of the spool are committed", done)
