"""The calls of providers that run, noted where the death of this process does not reach them.

A call may be paid for although the core is killed while it runs. Each is noted in a file that is mapped into memory:
that costs no system call, and the kernel keeps what was written. The next core with the same data directory records
what it finds as of unknown outcome, and gives back what else the dead one had reserved. A record that was committed
after all has the same id, so that nothing is recorded or charged twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from maniac_common.supervised import supervised

from maniac_core.domain.budgets import Hold
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import Attempt, CompletionRecord
from maniac_core.domain.ids import uuid_id
from maniac_core.services.capture.capture import Capture, Note
from maniac_core.services.routing.planner import Step
from maniac_core.storage.base import ConstraintError, RefusedError, StorageError
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.completions import CompletionStore

_log = logging.getLogger(__name__)
_SLOTS = 4096
_SLOT_BYTES = 2048
_LENGTH_BYTES = 2
_NOTHING = bytes(_LENGTH_BYTES)
_LONGEST_NAME = 128
_SHORT_NAME = 24
"""Characters of a name that are noted if the longest names do not fit."""
_RETRY_S = 2.0
_SETTLE_S = 5.0
_UNKNOWN = "The gateway was killed while the provider was called; whether it answered is not known."


class _Call(msgspec.Struct, array_like=True, kw_only=True):
    """The note about a call."""

    id: str
    key: int | None
    project: int
    organization: int
    """The storage's own keys of the caller."""
    created: int
    request_id: str
    store: bool
    streamed: bool
    requested_model: str
    model: str
    provider: str
    model_id: str | None
    container: int | None
    container_label: str | None
    number: int
    """Of the attempt."""
    upstream_model: str
    most_nano_usd: int
    """The most that it and the attempts before it can have cost; 0: not known."""
    holds: tuple[Hold, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Call).decode


class RunningCalls:
    """Notes what runs, in a file of its own in `folder`, and settles what dead processes left there."""

    def __init__(self, folder: Path, store: CompletionStore, budgets: BudgetStore) -> None:
        self._store = store
        self._budgets = budgets
        self.holder = uuid_id()
        """The name of this process in what it reserves."""
        self._folder = folder
        self._path = folder / f"{self.holder}.calls"
        self._file: int | None = None
        self._map: mmap.mmap | None = None
        self._free: list[int] = []

    async def open(self) -> asyncio.Task[None]:
        """Begin to note, and settle what is left behind; return the task that does so.

        It has ended by then, so that whoever is served sees what an earlier run has spent, unless that takes long: a
        database that is away holds up nothing.
        """
        await asyncio.to_thread(self._make_file)
        settling = asyncio.create_task(supervised("settling calls", self._keep_settling))
        await asyncio.wait((settling,), timeout=_SETTLE_S)
        return settling

    def _make_file(self) -> None:
        # If there is no room for the note, it is left out.
        size = _SLOTS * _SLOT_BYTES
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._locked_file()
            # All of it now: a disk that is full later would end the process.
            os.posix_fallocate(self._file, 0, size)
            self._map = mmap.mmap(self._file, size)
        except OSError as err:
            _log.warning("calls that run are not noted, in case this process is killed: %s", err)
            return
        self._free = list(range(0, size, _SLOT_BYTES))

    def _locked_file(self) -> int:
        while True:
            file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            # Held until this process ends, in whatever way.
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:
                return file
            # Another core has found it before it was locked, and removed it.
            os.close(file)

    def close(self) -> None:
        """End; what is still noted is left to the next core."""
        if self._map is not None:
            if len(self._free) == _SLOTS:
                self._path.unlink(missing_ok=True)
            self._map.close()
            self._map = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def note(self, capture: Capture, step: Step) -> Note | None:
        """Note the call that a request is about to make, until its record is durable; None: there is no room."""
        place = capture.note
        if self._map is None:
            return place
        has_note = place is not None
        if place is None:
            if not self._free:
                return None
            place = Place(self, self._free.pop())
        room = _SLOT_BYTES - _LENGTH_BYTES
        text = _encode(_note_of(capture, step, _LONGEST_NAME))
        if len(text) > room:
            text = _encode(_note_of(capture, step, _SHORT_NAME))
        if len(text) > room:
            # Notes about earlier attempts stay.
            return place
        start, end = place.offset, place.offset + _LENGTH_BYTES
        if has_note:
            self._map[start:end] = _NOTHING
        # The length last: until it is there the place counts as empty.
        self._map[end : end + len(text)] = text
        self._map[start:end] = len(text).to_bytes(_LENGTH_BYTES)
        return place

    def settled(self, offset: int) -> None:
        """There is a record: the place is free."""
        if self._map is not None:
            self._map[offset : offset + _LENGTH_BYTES] = _NOTHING
            self._free.append(offset)

    async def settle_left_behind(self) -> None:
        """Record what the calls of dead processes may have cost, and give back what else these had reserved.

        Raises:
            StorageError: some is left, for another time.
        """
        for path in sorted(self._folder.glob("*.calls")):
            if path == self._path:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    # Another core with the same folder is alive.
                    continue
                calls = list(_calls_in(await asyncio.to_thread(file.read)))
                for call in calls:
                    await _record(self._store, call)
                await self._budgets.release(path.stem)
                path.unlink()
            if calls:
                _log.warning(
                    "%d calls ran when a core was killed; they are recorded as of unknown outcome",
                    len(calls),
                )

    async def _keep_settling(self) -> None:
        while True:
            try:
                await self.settle_left_behind()
            except StorageError as err:
                _log.warning("calls of a core that was killed are not recorded yet: %s", err)
            else:
                return
            await asyncio.sleep(_RETRY_S)


class Place:
    """Where a call is noted; implements `Note`."""

    __slots__ = ("_calls", "offset")

    def __init__(self, calls: RunningCalls, offset: int) -> None:
        self._calls = calls
        self.offset = offset

    def settled(self, pending: asyncio.Future[None]) -> None:
        """The record is durable, or it is lost: then the next core records what it may have cost."""
        error = None if pending.cancelled() else pending.exception()
        if error is None or isinstance(error, ConstraintError):
            self._calls.settled(self.offset)


def _note_of(capture: Capture, step: Step, longest: int) -> tuple[object, ...]:
    """Return the fields of a _Call in their order; making the struct would cost as much as encoding it."""
    call, trail, candidate = capture.call, capture.trail, step.candidate
    request, caller, container = capture.request, call.caller, step.container
    holds, most = [], trail.charge_nano_usd
    if capture.holds is not None:
        holds = list(capture.holds.taken)
        most += capture.holds.worst_nano_usd
    if len(holds) > 1:
        # The first one says which windows are charged.
        holds[1:] = [msgspec.structs.replace(hold, windows=()) for hold in holds[1:]]
    return (
        capture.id,
        caller.key,
        caller.project,
        caller.organization,
        capture.created,
        call.request_id[:longest],
        request.store,
        capture.streamed,
        (request.model or candidate.slug)[:longest],
        candidate.slug[:longest],
        candidate.provider,
        candidate.model_id,
        container.key if container else None,
        container.label if container else None,
        len(trail.attempts),
        candidate.model[:longest],
        most,
        holds,
    )


def _calls_in(content: bytes) -> Iterator[_Call]:
    for start in range(0, len(content), _SLOT_BYTES):
        begin = start + _LENGTH_BYTES
        length = int.from_bytes(content[start:begin])
        if not length:
            continue
        try:
            yield _decode(content[begin : begin + length])
        except msgspec.MsgspecError:
            # Killed in the middle of noting it, and so before it was sent.
            _log.warning("a note of a call that ran cannot be read, and is dropped")


async def _record(store: CompletionStore, call: _Call) -> None:
    most = call.most_nano_usd or None
    attempt = Attempt(
        number=call.number,
        provider=call.provider,
        model=call.upstream_model,
        started_us=call.created * 1_000_000,
        latency_us=0,
        time_to_first_token_us=None,
        outcome="failed",
        http_status=None,
        error_reason=None,
        error_message=_UNKNOWN,
        usage=None,
        spend_nano_usd=most,
    )
    record = CompletionRecord(
        id=call.id,
        caller=Caller(
            key=call.key,
            project=call.project,
            organization=call.organization,
            project_id="",
            organization_id="",
        ),
        created=call.created,
        request_id=call.request_id,
        status="unknown",
        store=call.store,
        streamed=call.streamed,
        requested_model=call.requested_model,
        model=call.model,
        provider=call.provider,
        model_id=call.model_id,
        container=call.container,
        container_label=call.container_label,
        finish_reason="error",
        error_message=_UNKNOWN,
        usage=Usage(),
        usage_source="estimated" if most else "none",
        spend_nano_usd=most,
        time_to_first_token_us=None,
        latency_us=0,
        attempts=(attempt,),
        charge_nano_usd=call.most_nano_usd,
        holds=call.holds,
    )
    try:
        await store.capture(record)
    except ConstraintError:
        # Its own record was committed, or the spool has brought it.
        return
    except RefusedError as err:
        _log.error("a call of unknown outcome cannot be recorded: %s", err)
