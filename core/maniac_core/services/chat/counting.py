"""The size of a prompt that is not sent: counted by its provider where that is possible, else estimated."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from maniac_core.domain.chat import ChatRequest
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.upstream.upstream import Upstream
from maniac_core.services.billing.price_ceiling import prompt_tokens
from maniac_core.services.capture.capture import Call
from maniac_core.services.routing.planner import Planner, Step

_log = logging.getLogger(__name__)
_TIMEOUT_S = 20.0


class TokenCounter:
    """Counts for admitted callers; nothing is recorded, because nothing is paid."""

    def __init__(self, planner: Planner, upstreams: Mapping[str, Upstream]) -> None:
        self._planner = planner
        self._upstreams = upstreams

    async def count(self, call: Call, request: ChatRequest) -> tuple[int, bool]:
        """Return the tokens of a prompt, and whether they are an estimate.

        Raises:
            GatewayError: as the plan of the request.
        """
        steps = await self._planner.plan(call.caller, request, call.headers, stream=False)
        step = steps[0]
        upstream = self._upstreams.get(step.candidate.provider)
        if (
            upstream is not None
            and not upstream.needs_key
            and upstream.counts(step.candidate.model, step.prompt)
        ):
            try:
                return await _asked(upstream, step), False
            except (UpstreamFailure, GatewayError) as err:
                _log.info("%s did not count a prompt: %s", upstream.name, type(err).__name__)
        return prompt_tokens(step), True


async def _asked(upstream: Upstream, step: Step) -> int:
    prompt = msgspec.structs.replace(step.prompt, is_count=True)
    answer, _ = await upstream.answer(step.candidate.model, None, prompt, _TIMEOUT_S)
    return answer.usage.input_tokens if answer.usage is not None else 0
