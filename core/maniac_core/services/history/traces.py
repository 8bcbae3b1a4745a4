"""External traces within the caller's project."""

from __future__ import annotations

from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.paging import Page
from maniac_core.domain.traces import TraceDetail, TraceSummary
from maniac_core.storage.stores.traces import TraceStore


class TraceService:
    """Reads what was captured of the `trace` that callers sent."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def get(self, caller: Caller, trace_id: str) -> TraceDetail:
        """Return one, by the id that its caller chose.

        Raises:
            GatewayError: TRACE_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._store.get(caller.project, trace_id)
        if found is None:
            raise GatewayError(
                Reason.ERROR_REASON_TRACE_NOT_FOUND,
                f"There is no trace {trace_id!r}.",
                param="id",
            )
        return found

    async def list(self, caller: Caller, page: Page) -> tuple[list[TraceSummary], int]:
        """Return a page, newest first, and the count of all.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        return (
            await self._store.list(caller.project, page),
            await self._store.count(caller.project),
        )
