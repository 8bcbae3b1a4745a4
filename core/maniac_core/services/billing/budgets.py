"""Budgets of organizations, projects and keys: set, listed and removed by the operator."""

from __future__ import annotations

from maniac_core.domain.audit import COMMAND, Actor
from maniac_core.domain.budgets import Budget, Limit, Owner, OwnerKind, Period
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s
from maniac_core.storage.stores.budgets import BudgetStore

_NOT_FOUND = {
    "organization": Reason.ERROR_REASON_PROJECT_NOT_FOUND,
    "project": Reason.ERROR_REASON_PROJECT_NOT_FOUND,
    "key": Reason.ERROR_REASON_API_KEY_NOT_FOUND,
}


class BudgetService:
    """Manages all budgets. A core that runs knows of a change within a second."""

    def __init__(self, store: BudgetStore) -> None:
        self._store = store

    async def set(self, kind: OwnerKind, name: str, limit: Limit, by: Actor = COMMAND) -> None:
        """Make a budget, or change the limit of the one that the owner has for that period.

        `name` is the name or id of an organization or a project, or the id or prefix of a key. What was spent in the
        running period before counts. `by` is who does it.

        Raises:
            GatewayError: VALIDATION_ERROR for a limit below 0; PROJECT_NOT_FOUND or API_KEY_NOT_FOUND; CONFLICT when
                several have that name; DEPENDENCY_UNAVAILABLE.
        """
        if limit.nano_usd < 0:
            raise GatewayError(
                Reason.ERROR_REASON_VALIDATION_ERROR, "A budget must not be below 0.", param="limit"
            )
        await self._store.set(await self._owner(kind, name), limit, now_s(), by)

    async def remove(self, kind: OwnerKind, name: str, period: Period, by: Actor = COMMAND) -> bool:
        """Remove a budget and return whether there was one; see `set` for the rest.

        Raises:
            GatewayError: as `set`.
        """
        return await self._store.remove(await self._owner(kind, name), period, by)

    async def list(self) -> list[Budget]:
        """Return all budgets, by organization, with what is spent and reserved of their running periods.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        return await self._store.list(now_s())

    async def _owner(self, kind: OwnerKind, name: str) -> Owner:
        owners = await self._store.find_owners(kind, name)
        if not owners:
            raise GatewayError(_NOT_FOUND[kind], f"There is no {kind} {name!r}.")
        if len(owners) > 1:
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                f"There are several of the name {name!r}; give the id.",
            )
        return owners[0]
