"""Limits of tokens per window: an estimate is reserved before a provider is called, the record settles it."""

from __future__ import annotations

from maniac_core.domain.callers import Caller
from maniac_core.services.billing.price_ceiling import prompt_tokens, wanted_tokens
from maniac_core.services.limits.rate_limiter import RateLimiter, TokenHold
from maniac_core.services.routing.planner import Step

ASSUMED_ANSWER_TOKENS = 1_024
"""Of a request without a limit of its own: what is usual, not what is possible."""


class TokenGate:
    """Refuses requests that do not fit into what is left of a window."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def admit(self, caller: Caller, step: Step) -> TokenHold | None:
        """Reserve the tokens that a request is likely to use; None: no limit holds for it.

        Raises:
            GatewayError: RATE_LIMIT_EXCEEDED.
        """
        if caller.is_internal or not self._limiter.limits_tokens(caller):
            return None
        wanted = wanted_tokens(step)
        answer = ASSUMED_ANSWER_TOKENS if wanted is None else wanted
        return await self._limiter.take_tokens(caller, prompt_tokens(step) + answer)
