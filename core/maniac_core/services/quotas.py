"""Quotas: how much a project may hold, so that one project cannot fill the disk of all."""

from __future__ import annotations

import time

from maniac_core.config import CoreConfig
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.records import Caller, CompletionFilter
from maniac_core.services.outage import unavailable
from maniac_core.storage.base import StorageError
from maniac_core.storage.completions import CompletionStore
from maniac_core.storage.files import FileStore

_FRESH_S = 5.0
"""How long a count is used. Meanwhile this core counts on; what other cores add is seen after that."""


class Quotas:
    """Checks quotas; without any, nothing is asked or counted."""

    def __init__(self, config: CoreConfig, completions: CompletionStore, files: FileStore) -> None:
        self._max_completions = config.project_max_completions
        self._max_file_bytes = config.project_max_file_bytes
        self._completions = completions
        self._files = files
        self._held: dict[int, tuple[float, int]] = {}
        """By project: until when a count is used (monotonic seconds), and the count."""

    async def take_completions(self, caller: Caller, count: int = 1) -> None:
        """Let the caller's project add completions with content.

        Raises:
            GatewayError: QUOTA_EXCEEDED; DEPENDENCY_UNAVAILABLE.
        """
        limit = self._max_completions
        if not limit:
            return
        until, held = self._held.get(caller.project, (0.0, 0))
        now = time.monotonic()
        if until < now:
            try:
                held = await self._completions.count(caller.project, CompletionFilter())
            except StorageError as err:
                raise unavailable() from err
            until = now + _FRESH_S
        if held + count > limit:
            # Not kept: a deletion is to be seen at once.
            self._held.pop(caller.project, None)
            raise _exceeded(
                f"This project may hold {limit} completions and has {held}. Delete some, or send "
                "`store: false`."
            )
        self._held[caller.project] = (until, held + count)

    async def free_file_bytes(self, caller: Caller) -> int | None:
        """Return how many bytes of files the caller's project may add; None: any number.

        Raises:
            GatewayError: QUOTA_EXCEEDED, none; DEPENDENCY_UNAVAILABLE.
        """
        if not self._max_file_bytes:
            return None
        try:
            held = await self._files.total_bytes(caller.project)
        except StorageError as err:
            raise unavailable() from err
        if held >= self._max_file_bytes:
            raise files_exceeded()
        return self._max_file_bytes - held


def files_exceeded() -> GatewayError:
    """Return the error of a file for which there is no room."""
    return _exceeded(
        "The files of this project would exceed its quota ([core] project_max_file_bytes). Delete some first."
    )


def _exceeded(message: str) -> GatewayError:
    return GatewayError(Reason.ERROR_REASON_QUOTA_EXCEEDED, message)
