"""The most that a request can use and cost, reckoned before it is sent.

A limit of output tokens that a caller gives bounds the answer; without one the model's own limit does, without that its
context window. Prompts are counted twice over: the estimate is good to about 40 percent, and what is reserved too much
comes back within the request.
"""

from __future__ import annotations

from typing import Any

from maniac_core.domain.errors import GatewayError
from maniac_core.providers.catalogue import Catalogue
from maniac_core.providers.estimate import estimate_prompt_tokens
from maniac_core.providers.given import Given, plain, take_limit
from maniac_core.providers.reasoning import BUDGET_TOKENS, take_reasoning
from maniac_core.services.plan import Step

PROMPT_MARGIN = 2
ASSUMED_OUTPUT_TOKENS = 16_384
"""Of a model of which nothing is known, when the request has no limit either."""
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


def prompt_tokens(step: Step) -> int:
    """Return about how many tokens the prompt has."""
    return estimate_prompt_tokens(step.prompt.messages, step.prompt.parameters)


def wanted_tokens(step: Step) -> int | None:
    """Return the most output tokens that the request allows, thinking included; None: it has no limit."""
    if _LIMITS.isdisjoint(step.prompt.parameters):
        return None
    given = Given(step.prompt.parameters)
    limit = take_limit(given)
    if limit is None:
        return None
    largest = step.max_output_tokens
    total = max(0, limit) + _thinking_tokens(step, given)
    return total if largest is None else min(total, largest)


def output_tokens(step: Step) -> int:
    """Return the most output tokens that the answer can have."""
    wanted = wanted_tokens(step)
    if wanted is not None:
        return wanted
    return step.max_output_tokens or step.context_window or ASSUMED_OUTPUT_TOKENS


def ceiling_nano_usd(step: Step, catalogue: Catalogue) -> int | None:
    """Return the most that the step can cost; None: its price is unknown."""
    entry = catalogue.find(step.candidate.provider, step.candidate.model)
    if entry is None:
        return None
    tier = plain(step.prompt.parameters.get("service_tier"))
    prices = entry.prices(service_tier=tier if isinstance(tier, str) else None)
    if prices is None:
        return None
    return prices.ceiling_nano_usd(PROMPT_MARGIN * prompt_tokens(step), output_tokens(step))


def _thinking_tokens(step: Step, given: Any) -> int:
    """Return what thinking adds to the caller's limit on wires that count it into their own."""
    config = step.candidate.config
    if config is None or config.kind not in ("anthropic", "gemini"):
        return 0
    try:
        reasoning = take_reasoning(given)
    except GatewayError:
        # The dialect refuses it in a moment.
        return 0
    if reasoning is None:
        return 0
    return max(reasoning.budget_tokens, min(BUDGET_TOKENS.values()))
