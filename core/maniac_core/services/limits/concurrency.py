"""How many chat requests of one key, project or organization may run in this core at the same time."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason


class Concurrency:
    """Counts what runs. Without limits nothing is counted."""

    def __init__(self, config: CoreConfig) -> None:
        self._limits = (
            config.concurrent_requests,
            config.concurrent_requests_per_project,
            config.concurrent_requests_per_key,
        )
        self.is_off = not any(self._limits)
        self.running: Counter[tuple[str, int]] = Counter()
        """By owner: `organization`, `project` or `key`, and the storage's key of it."""

    def slot(self, caller: Caller) -> Slot:
        """Return what a request holds while it runs.

        Raises:
            GatewayError: RATE_LIMIT_EXCEEDED, when it is entered.
        """
        if self.is_off or caller.is_internal:
            return _FREE
        organization, project, key = self._limits
        owners = []
        if organization:
            owners.append((("organization", caller.organization), organization))
        if project:
            owners.append((("project", caller.project), project))
        if key and caller.key is not None:
            owners.append((("key", caller.key), key))
        return Slot(self.running, owners)


class Slot:
    """The place of one request."""

    __slots__ = ("_owners", "_running")

    def __init__(
        self, running: Counter[tuple[str, int]], owners: list[tuple[tuple[str, int], int]]
    ) -> None:
        self._running = running
        self._owners = owners

    def __enter__(self) -> None:
        """Take the place."""
        running = self._running
        for owner, limit in self._owners:
            if running[owner] >= limit:
                raise GatewayError(
                    Reason.ERROR_REASON_RATE_LIMIT_EXCEEDED,
                    f"The limit of the {owner[0]} for concurrent chat requests ({limit}) is reached; try again when one of"
                    " them has ended.",
                    retry_after_s=1,
                )
        for owner, _ in self._owners:
            running[owner] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Leave it."""
        running = self._running
        for owner, _ in self._owners:
            running[owner] -= 1
            if not running[owner]:
                del running[owner]


_FREE = Slot(Counter(), [])
