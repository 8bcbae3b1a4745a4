"""Quotas: how much a project may hold, so that one project cannot fill the disk of all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType

from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionFilter
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.files import FileStore

_FRESH_S = 5.0
"""How long a count is used. Meanwhile this core counts on; what other cores add is seen after that."""


class Quotas:
    """Checks quotas; without any, nothing is asked or counted."""

    def __init__(self, config: CoreConfig, completions: CompletionStore, files: FileStore) -> None:
        self.is_off = not config.project_max_completions
        """Whether completions have no quota."""
        self._max_completions = config.project_max_completions
        self._max_file_bytes = config.project_max_file_bytes
        self._completions = completions
        self._files = files
        self._held: dict[int, _Held] = {}
        self._file_turns: dict[int, asyncio.Lock] = {}

    async def room(self, caller: Caller, count: int = 1) -> Room:
        """Return room for completions with content that the caller's project may add, to be held while it does.

        Raises:
            GatewayError: QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE.
        """
        limit = self._max_completions
        if not limit or not count:
            return _ANY
        held = self._held.get(caller.project)
        if held is None:
            held = self._held[caller.project] = _Held()
        asked = time.monotonic()
        if asked - held.counted >= _FRESH_S or held.total + count > limit:
            # Nobody is refused by an old count: something may have been deleted, and what failed has added nothing.
            await self._count(caller.project, held, asked)
        if held.total + count > limit:
            raise _exceeded(
                f"This project may hold {limit} completions and has {held.total}. Delete some, or send "
                "`store: false`."
            )
        return Room(held, count)

    async def _count(self, project: int, held: _Held, asked: float) -> None:
        async with held.lock:
            if held.counted >= asked:
                # Somebody else has just done so.
                return
            counted = time.monotonic()
            # What had ended by then is in the answer; until that is here it still counts as it did.
            ended = held.ended
            held.stored = await self._completions.count(project, CompletionFilter())
            held.ended -= ended
            held.counted = counted

    def file_turn(self, caller: Caller) -> contextlib.AbstractAsyncContextManager[None]:
        """Return what is held from looking for room for a file until the file is there: one at a time has it."""
        if not self._max_file_bytes:
            return contextlib.nullcontext()
        return self._file_turns.setdefault(caller.project, asyncio.Lock())

    async def free_file_bytes(self, caller: Caller) -> int | None:
        """Return how many bytes of files the caller's project may add; None: any number.

        Raises:
            GatewayError: QUOTA_EXCEEDED, none; DEPENDENCY_UNAVAILABLE.
        """
        if not self._max_file_bytes:
            return None
        held = await self._files.total_bytes(caller.project)
        if held >= self._max_file_bytes:
            raise files_exceeded()
        return self._max_file_bytes - held


class _Held:
    """The holdings of a project, as far as this core knows."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Of whoever counts."""
        self.counted = -_FRESH_S
        """When the database was last asked, in monotonic seconds."""
        self.stored = 0
        """The database's count."""
        self.ended = 0
        """Requests of this core that have ended since it was asked. Each may have added something."""
        self.running = 0
        """Requests of this core that run."""

    @property
    def total(self) -> int:
        return self.stored + self.ended + self.running


class Room:
    """Room for completions, from its making until their records are there or will not be."""

    __slots__ = ("_count", "_held")

    def __init__(self, held: _Held, count: int) -> None:
        self._held = held
        self._count = count
        held.running += count

    def __enter__(self) -> None:
        """Add to the project."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Nothing more will be added."""
        self._held.running -= self._count
        self._held.ended += self._count


_ANY = Room(_Held(), 0)


def files_exceeded() -> GatewayError:
    """Return the error for a file that exceeds the quota."""
    return _exceeded(
        "The files of this project would exceed its quota ([core] project_max_file_bytes). Delete some first."
    )


def _exceeded(message: str) -> GatewayError:
    return GatewayError(Reason.ERROR_REASON_QUOTA_EXCEEDED, message)
