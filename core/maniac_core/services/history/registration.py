"""Registration: takes examples that were completed elsewhere into a container, a few at a time.

The writer's queue serves completions as well, so a registration waits for each of its chunks before it hands in the
next, and lets the event loop go on every few items.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.errors import GatewayError
from maniac_core.domain.examples import (
    MAX_REPORTED_ERRORS,
    Example,
    ExampleError,
    RegistrationResult,
)
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.examples import ExampleReader
from maniac_core.services.limits.quotas import Quotas
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.router import Router
from maniac_core.storage.base import ConstraintError, StorageError
from maniac_core.storage.stores.completions import CompletionStore

_CHUNK = 16
"""Records in the writer's queue at a time: making and committing their rows takes about a millisecond."""
_BREATH = 8
"""Examples that are checked in one go, some hundred microseconds."""
_PAUSE = 1.0
"""How long a registration then stays away, as a share of what the chunk took. Without it, and with chunks of 64, the
p99 of completions beside it was five times as high (`bench/register.py`)."""
_SUMMED = (
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
    "reasoning_tokens",
)


class Registrar:
    """Opens registrations."""

    def __init__(
        self,
        store: CompletionStore,
        containers: ContainerService,
        router: Router,
        quotas: Quotas,
    ) -> None:
        self._quotas = quotas
        self._store = store
        self._containers = containers
        self._router = router

    async def open(self, call: Call, container: str) -> Registration:
        """Begin to register under a container, named by its label, `maniac:label` or id.

        Raises:
            GatewayError: CONTAINER_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._containers.get(call.caller, container)
        reader = ExampleReader(call, found, self._router)
        return Registration(self._store, call.caller, found.label, reader, self._quotas)


class Registration:
    """One call's worth of examples; `result` says at any time what became of those that were added."""

    def __init__(
        self,
        store: CompletionStore,
        caller: Caller,
        container: str,
        reader: ExampleReader,
        quotas: Quotas,
    ) -> None:
        self.container = container
        """Bare label."""
        self.result = RegistrationResult()
        self._store = store
        self._caller = caller
        self._quotas = quotas
        self._reader = reader

    async def add(self, examples: Sequence[Example]) -> None:
        """Check and keep examples; returns once they are committed. One that cannot be kept is in the result.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE, and nothing of the whole call was kept.
        """
        self.result.received += len(examples)
        for start in range(0, len(examples), _CHUNK):
            began = time.monotonic()
            await self._add_chunk(examples[start : start + _CHUNK])
            await asyncio.sleep((time.monotonic() - began) * _PAUSE)

    def refuse(self, index: int, error: GatewayError) -> None:
        """Report an item that is not an example."""
        self.result.received += 1
        self._fail(index, error)

    async def _add_chunk(self, examples: Sequence[Example]) -> None:
        records: dict[str, tuple[int, CompletionRecord]] = {}
        named: list[str] = []
        for position, example in enumerate(examples):
            if position % _BREATH == 0:
                await asyncio.sleep(0)
            try:
                record = self._reader.record(example)
            except GatewayError as error:
                self._fail(example.index, error)
                continue
            if record.id in records:
                self.result.skipped += 1
                continue
            records[record.id] = (example.index, record)
            if example.output is not None:
                named.append(record.id)
        try:
            # Found beforehand, because a refused row makes the writer repeat its whole batch.
            for known in await self._store.existing(self._caller.project, named) if named else ():
                self.result.skipped += 1
                del records[known]
        except StorageError as err:
            self._lose([index for index, _ in records.values()], err)
            return
        try:
            room = await self._quotas.room(self._caller, len(records))
        except GatewayError as error:
            for index, _ in records.values():
                self._fail(index, error)
            return
        with room:
            await self._keep(list(records.values()))

    async def _keep(self, records: list[tuple[int, CompletionRecord]]) -> None:
        pending = [self._store.capture(record) for _, record in records]
        outcomes = await asyncio.gather(*pending, return_exceptions=True)
        lost: list[int] = []
        cause: StorageError | None = None
        for (index, record), outcome in zip(records, outcomes, strict=True):
            if outcome is None:
                self.result.inserted += 1
                self._count(record.usage)
            elif isinstance(outcome, ConstraintError):
                # Another call has just registered it.
                self.result.skipped += 1
            elif isinstance(outcome, StorageError):
                lost.append(index)
                cause = outcome
            else:
                raise outcome
        if cause is not None:
            self._lose(lost, cause)

    def _lose(self, indexes: list[int], cause: StorageError) -> None:
        """Report examples that the database did not take; an error of the whole call says that nothing was kept."""
        if not self.result.inserted:
            raise cause
        for index in indexes:
            self._fail(index, cause)

    def _fail(self, index: int, error: GatewayError) -> None:
        self.result.failed += 1
        if len(self.result.errors) < MAX_REPORTED_ERRORS:
            self.result.errors.append(
                ExampleError(
                    index=index, code=error.code, message=error.message, param=error.param or ""
                )
            )

    def _count(self, usage: Usage) -> None:
        total = self.result.usage
        self.result.usage = msgspec.structs.replace(
            total, **{name: getattr(total, name) + getattr(usage, name) for name in _SUMMED}
        )
