"""Usage reports of the caller's project: requests, tokens and spend by day, model, container, key and tag."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.usage import Dimension, UsageReport, UsageSelection, UsageTotals
from maniac_core.services.limits.refusals import Refusals
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.router import Router
from maniac_core.storage.stores.usage import UsageStore

_DAYS = 30
MAX_GROUPS = 1_000
_NOTHING = UsageReport(
    groups=[],
    total_groups=0,
    totals=UsageTotals(
        requests=0, successes=0, errors=0, unknown=0, usage=Usage(), spend_nano_usd=0, unpriced=0
    ),
)


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests; empty: all."""

    model: str = ""
    """A slug."""
    container: str = ""
    """Label, id or `maniac:label`."""
    key: str = ""
    """Id."""
    tag: str = ""


class UsageService:
    """Reads the daily sums."""

    def __init__(
        self,
        store: UsageStore,
        router: Router,
        containers: ContainerService,
        refusals: Refusals | None = None,
    ) -> None:
        """`refusals`: what this process has counted and not yet written."""
        self._refusals = refusals
        self._store = store
        self._router = router
        self._containers = containers

    async def report(
        self,
        caller: Caller,
        *,
        first_day: str,
        last_day: str,
        by: Sequence[Dimension],
        wanted: UsageFilter,
        limit: int = MAX_GROUPS,
        skip: int = 0,
    ) -> UsageReport:
        """Return a page of a report; days are `YYYY-MM-DD` in UTC, both included, or empty for the last 30.

        A filter that names nothing gives an empty report, as lists do.

        Raises:
            GatewayError: VALIDATION_ERROR for a day, or a dimension that is named twice; DEPENDENCY_UNAVAILABLE.
        """
        if len(set(by)) != len(by):
            raise _invalid("group_by", "names a dimension twice")
        last = _day(last_day, "to") or datetime.now(UTC).date()
        first = _day(first_day, "from") or _days_before(last, _DAYS - 1)
        if first > last:
            raise _invalid("from", "must not be after `to`")
        container = None
        if wanted.container:
            container = await self._containers.lookup_any(caller, wanted.container)
            if container is None:
                return _NOTHING
        if self._refusals is not None:
            await self._refusals.flush()
        key = await self._store.find_key(caller, wanted.key) if wanted.key else None
        if wanted.key and key is None:
            return _NOTHING
        model = self._router.find(wanted.model) if wanted.model else None
        selection = UsageSelection(
            first_day=first,
            last_day=last,
            model=model.slug if model else wanted.model or None,
            container=container.key if container else None,
            key=key,
            tag=wanted.tag or None,
        )
        return await self._store.report(caller, selection, by, limit=limit, skip=skip)


def _day(text: str, name: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _invalid(name, "must be a day in the form YYYY-MM-DD") from None
    if day.isoformat() != text:
        raise _invalid(name, "must be a day in the form YYYY-MM-DD")
    return day


def _days_before(day: date, days: int) -> date:
    return date.fromordinal(max(1, day.toordinal() - days))


def _invalid(name: str, problem: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{name} {problem}.",
        param=name,
        violations=(Violation(("query", name), problem, "value_error"),),
    )
