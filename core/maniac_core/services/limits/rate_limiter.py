"""Rate limits: fixed windows per organization and per key, or per address of callers without one.

A window's bounds are multiples of its length since 1970, so that all scopes and all cores share them. Where it is
counted is the `Windows` seam: in this core, or in Redis for several cores (`redis_windows.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason

_LONGEST_ADDRESS = 64


class Charge(msgspec.Struct, frozen=True):
    """A count for one scope."""

    scope: str
    limit: int
    """Units per window."""
    units: int


class Windows(Protocol):
    """Counts units per scope and window."""

    async def add(self, window: int, charges: Sequence[Charge]) -> tuple[bool, list[int]] | None:
        """Count all charges if each is within its limit, else none.

        Returns whether they fit, and what is counted in each scope now; None if it cannot be counted at present.
        """

    def adjust(self, window: int, scope: str, units: int) -> None:
        """Add units, which may be below 0, to a scope whatever its limit; does not wait."""

    async def aclose(self) -> None:
        """Finish what waits."""


class RateState(msgspec.Struct, frozen=True):
    """A caller's window after a request was counted; of several, the one with the least room."""

    limit: int
    """Requests per window."""
    remaining: int
    reset: int
    """End of the window, Unix seconds."""
    allowed: bool


class MemoryWindows:
    """Counts in this process, exactly."""

    def __init__(self) -> None:
        self._window = 0
        self._counts: dict[str, int] = {}

    async def add(self, window: int, charges: Sequence[Charge]) -> tuple[bool, list[int]] | None:
        """Count all charges, or none."""
        if window != self._window:
            # A new window forgets all scopes at once.
            self._window = window
            self._counts = {}
        counts = self._counts
        used = [counts.get(charge.scope, 0) for charge in charges]
        for charge, count in zip(charges, used, strict=True):
            if count + charge.units > charge.limit:
                return False, used
        for position, charge in enumerate(charges):
            used[position] += charge.units
            counts[charge.scope] = used[position]
        return True, used

    def adjust(self, window: int, scope: str, units: int) -> None:
        """Add units to a scope of the running window."""
        if window == self._window:
            self._counts[scope] = self._counts.get(scope, 0) + units

    async def aclose(self) -> None:
        """Nothing waits."""


class RateLimiter:
    """Knows the limits that hold for a caller."""

    def __init__(self, config: CoreConfig, windows: Windows) -> None:
        self._limit = config.rate_limit
        self._token_limit = config.token_limit
        self._window_s = config.rate_window_s
        self._windows = windows
        self.refused_requests = 0
        """Requests that a limit of requests refused."""
        self.refused_tokens = 0
        """Requests that a limit of tokens refused."""

    async def hit(self, caller: Caller) -> RateState | None:
        """Count one request of a caller; None: no limit holds. A refused request is not counted."""
        charges = self._request_charges(caller)
        return await self._hit(charges) if charges else None

    async def peek(self, caller: Caller) -> RateState | None:
        """Tell whether one more request of a caller would be let through, without counting it; None: no limit holds."""
        charges = self._request_charges(caller)
        return await self._hit(charges, keep=False) if charges else None

    def _request_charges(self, caller: Caller) -> list[Charge]:
        charges = []
        if self._limit:
            charges.append(Charge(f"{_organization(caller)}:requests", self._limit, 1))
        if caller.rate_limit is not None:
            charges.append(Charge(f"{_key(caller)}:requests", caller.rate_limit, 1))
        return charges

    async def hit_address(self, address: str) -> RateState | None:
        """Count one request without a valid key."""
        if not self._limit:
            return None
        # The prefix keeps an address apart from an organization's name; the cut bounds its memory.
        scope = f"{{address:{address[:_LONGEST_ADDRESS]}}}:requests"
        return await self._hit([Charge(scope, self._limit, 1)])

    def limits_tokens(self, caller: Caller) -> bool:
        """Whether a limit of tokens holds for a caller."""
        return bool(self._token_limit) or caller.token_limit is not None

    async def take_tokens(self, caller: Caller, tokens: int) -> TokenHold | None:
        """Reserve tokens in the windows of a caller; None: no limit holds, or it cannot be counted at present.

        A request that exceeds a limit on its own is counted as that limit: it passes only in an unused window.

        Raises:
            GatewayError: RATE_LIMIT_EXCEEDED.
        """
        charges = []
        if self._token_limit:
            scope = f"{_organization(caller)}:tokens"
            charges.append(Charge(scope, self._token_limit, min(tokens, self._token_limit)))
        if caller.token_limit is not None:
            scope = f"{_key(caller)}:tokens"
            charges.append(Charge(scope, caller.token_limit, min(tokens, caller.token_limit)))
        if not charges:
            return None
        window = int(time.time()) // self._window_s
        counted = await self._windows.add(window, charges)
        if counted is None:
            return None
        fits, used = counted
        if not fits:
            self.refused_tokens += 1
            short = next(
                charge
                for charge, count in zip(charges, used, strict=True)
                if count + charge.units > charge.limit
            )
            raise _refusal(f"{short.limit} tokens", (window + 1) * self._window_s)
        return TokenHold(self._windows, window, charges)

    async def _hit(self, charges: list[Charge], *, keep: bool = True) -> RateState:
        window = int(time.time()) // self._window_s
        reset = (window + 1) * self._window_s
        counted = await self._windows.add(window, charges)
        if counted is None:
            narrowest = min(charge.limit for charge in charges)
            return RateState(narrowest, narrowest, reset, allowed=True)
        allowed, used = counted
        if not allowed:
            self.refused_requests += 1
        elif not keep:
            for charge in charges:
                self._windows.adjust(window, charge.scope, -charge.units)
            used = [count - 1 for count in used]
        remaining, limit = min(
            (max(0, charge.limit - count), charge.limit)
            for charge, count in zip(charges, used, strict=True)
        )
        return RateState(limit, remaining, reset, allowed)


class TokenHold:
    """Tokens that a running request has reserved."""

    def __init__(self, windows: Windows, window: int, charges: Sequence[Charge]) -> None:
        self._windows = windows
        self._window = window
        self._charges = charges

    def settle(self, tokens: int) -> None:
        """Count what was used instead of what was reserved."""
        for charge in self._charges:
            if tokens != charge.units:
                self._windows.adjust(self._window, charge.scope, tokens - charge.units)


def _organization(caller: Caller) -> str:
    # The braces keep all scopes of an organization on one node of a Redis cluster.
    return f"{{organization:{caller.organization_id}}}"


def _key(caller: Caller) -> str:
    return f"{_organization(caller)}:key:{caller.key}"


def rate_error(state: RateState) -> GatewayError:
    """Return the error of a refused request."""
    return _refusal(f"{state.limit} requests", state.reset)


def _refusal(what: str, reset: int) -> GatewayError:
    wait = max(1, reset - int(time.time()))
    return GatewayError(
        Reason.ERROR_REASON_RATE_LIMIT_EXCEEDED,
        f"Rate limit of {what} per window reached; try again in {wait} s.",
        retry_after_s=wait,
    )
