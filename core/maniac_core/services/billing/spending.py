"""The billing gate: a request whose worst case does not fit into its caller's budgets reaches no provider."""

from __future__ import annotations

import asyncio

from maniac_core.config.provider import LOCAL_PROVIDER
from maniac_core.domain.budgets import Hold, OwnerKind, Period
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.prompt_bound import has_documents
from maniac_core.services.billing.price_ceiling import ceiling_nano_usd
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.capture.attempt_log import Trail
from maniac_core.services.capture.holds import Holds
from maniac_core.services.routing.planner import Step
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.budgets import BudgetStore

_TRIES = 3
_MOST_MODELS = 10_000
# Some four million USD. A caller's limit of tokens may be any integer; 512 such amounts still add up in the database.
_MOST_NANO_USD = 2**52
_PERIODS: dict[Period, str] = {"day": "for today", "month": "for this month", "total": "in total"}


class Spending:
    """Reserves what requests may cost; their records charge what they did cost."""

    def __init__(
        self, store: BudgetStore, reservations: Reservations, catalogue: Catalogue
    ) -> None:
        self._store = store
        self._reservations = reservations
        self._catalogue = catalogue
        self._reported: dict[tuple[str, str], int] = {}
        """The most that a request of a model was charged by its provider's word."""

    async def cover(
        self, caller: Caller, step: Step, trail: Trail, holds: Holds | None
    ) -> Holds | None:
        """Return reservations that cover an attempt, besides what earlier ones have cost; None: it needs none.

        `holds`: what the request has reserved already, to which more is added.

        Called after resolution and before every attempt; it waits for the database only when more is to be reserved.

        Raises:
            GatewayError: INSUFFICIENT_BALANCE; DEPENDENCY_UNAVAILABLE.
        """
        if not caller.is_budgeted or caller.is_internal:
            return holds
        if holds is not None and holds.covered is step and not trail.was_called:
            # Reckoned a moment ago, before the request was let through.
            return holds
        if has_documents(step.prompt.messages):
            # Pages are counted in the file, which others should not wait for.
            worst = await asyncio.to_thread(self._worst_case, step)
        else:
            worst = self._worst_case(step)
        missing = worst + trail.charge_nano_usd
        missing -= holds.total_nano_usd if holds is not None else 0
        if holds is None:
            if missing <= 0:
                is_local = step.candidate.provider == LOCAL_PROVIDER
                return None if is_local else await self._ready(caller, step)
            holds = Holds()
        if missing > 0:
            await self._take(caller, holds, missing)
        holds.cover(step, worst)
        return holds

    def learn(self, step: Step, cost_nano_usd: int) -> None:
        """Note what a provider says that it charged for a request."""
        model = step.candidate.provider, step.candidate.model
        if len(self._reported) >= _MOST_MODELS:
            self._reported.clear()
        self._reported[model] = max(cost_nano_usd, self._reported.get(model, 0))

    async def _ready(self, caller: Caller, step: Step) -> Holds | None:
        """Reserve next to nothing, so that a charge that nobody expects finds the budgets that it belongs to."""
        try:
            hold = await self._reservations.take(caller, 1)
            if hold is None:
                # A budget is used up, which keeps nobody from what is free: the budgets are known, without a hold.
                windows = [fit.window for fit in await self._store.check(caller, 0, now_s())]
                hold = Hold(id=uuid_id(), amount_nano_usd=0, windows=tuple(windows))
        except StorageError:
            # As without a budget: nothing is known to be charged.
            return None
        if not hold.windows:
            return None
        holds = Holds()
        holds.add(hold)
        holds.cover(step, 0)
        self._reservations.keep(holds)
        return holds

    async def _take(self, caller: Caller, holds: Holds, amount: int) -> None:
        fits = []
        for number in range(_TRIES):
            hold = await self._reservations.take(caller, amount)
            if hold is not None:
                holds.add(hold)
                self._reservations.keep(holds)
                return
            if number == 0 and self._reservations.recall_of(caller):
                # This core's reservations in advance may be the missing amount.
                continue
            fits = await self._store.check(caller, amount, now_s())
            if not fits:
                # The last budget was removed, and this core does not know yet.
                return
            short = next((fit for fit in fits if fit.is_short), None)
            if short is not None:
                raise _refusal(short.kind, short.period, amount)
        # Money comes back all the time, and others take it first.
        raise _refusal(fits[0].kind, fits[0].period, amount)

    def _worst_case(self, step: Step) -> int:
        worst = ceiling_nano_usd(step, self._catalogue)
        config = step.candidate.config
        if worst is None and (config is None or config.unpriced == "allow"):
            # Without a configuration there is no key either, and so no call.
            worst = 0
        if worst == 0:
            # Free, but not by what its provider said before.
            worst = self._reported.get((step.candidate.provider, step.candidate.model), 0)
        if worst is not None:
            return min(worst, _MOST_NANO_USD)
        raise GatewayError(
            Reason.ERROR_REASON_INSUFFICIENT_BALANCE,
            f"The price of {step.candidate.slug} is unknown, so its cost cannot be reserved in a budget.",
            param="model",
        )


def _refusal(kind: OwnerKind, period: Period, amount: int) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_INSUFFICIENT_BALANCE,
        f"The {kind}'s budget {_PERIODS[period]} does not cover this request, which may cost up to {_usd(amount)} USD.",
        details={"budget": kind, "period": period, "needed_usd": _usd(amount)},
    )


def _usd(nano: int) -> str:
    """Return an amount as plain decimal text."""
    whole, fraction = divmod(nano, 10**9)
    return f"{whole}.{fraction:09}".rstrip("0").rstrip(".")
