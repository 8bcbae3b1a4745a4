"""The most that a request can use and cost, reckoned before it is sent.

A limit of output tokens that a caller gives bounds the answer; without one the model's own limit does, without that its
context window. Prompts are bounded by their bytes and by the published rules for images and documents; what is reserved
too much comes back within the request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.pricing import prompt_bound
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.estimate import estimate_prompt_tokens
from maniac_core.providers.translation.parameters import Given, plain, take_limit
from maniac_core.providers.translation.reasoning import BUDGET_TOKENS, take_reasoning
from maniac_core.services.routing.planner import Step

ASSUMED_OUTPUT_TOKENS = 16_384
"""Of a model of which nothing is known, when the request has no limit either."""
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})


def prompt_tokens(step: Step) -> int:
    """Return about how many tokens the prompt has."""
    return estimate_prompt_tokens(
        step.prompt.messages, step.prompt.parameters, step.candidate.model
    )


def most_prompt_tokens(step: Step) -> int:
    """Return the most tokens that the prompt can have.

    Raises:
        GatewayError: INSUFFICIENT_BALANCE when nobody can say.
    """
    prompt = step.prompt
    try:
        return prompt_bound.most_prompt_tokens(
            step.candidate.model, prompt.messages, prompt.parameters
        )
    except prompt_bound.UnboundedError as err:
        raise GatewayError(
            Reason.ERROR_REASON_INSUFFICIENT_BALANCE,
            f"{err.param} {err.what}, so its cost cannot be reserved in a budget.",
            param=err.param,
        ) from None


def wanted_tokens(step: Step) -> int | None:
    """Return the most output tokens that the request allows, thinking included; None: it has no limit."""
    if step.prompt.is_embedding:
        return 0
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
    most = wanted_tokens(step)
    if most is None:
        most = step.max_output_tokens or step.context_window or ASSUMED_OUTPUT_TOKENS
    # Predicted tokens that are not in the answer are charged like output.
    prediction = step.prompt.parameters.get("prediction")
    if prediction is not None:
        most += prompt_bound.most_text_tokens(msgspec.json.encode(prediction))
    return most


def ceiling_nano_usd(step: Step, catalogue: Catalogue) -> int | None:
    """Return the most that the step can cost; None: its price is unknown.

    Raises:
        GatewayError: INSUFFICIENT_BALANCE when nobody can say.
    """
    entry = catalogue.find(step.candidate.provider, step.candidate.model)
    if entry is None:
        return None
    tier = plain(step.prompt.parameters.get("service_tier"))
    prices = entry.prices(service_tier=tier if isinstance(tier, str) else None)
    if prices is None:
        return None
    return prices.ceiling_nano_usd(
        most_prompt_tokens(step),
        output_tokens(step),
        may_hear=prompt_bound.has_documents(step.prompt.messages),
    )


def _thinking_tokens(step: Step, given: Any) -> int:
    """Return what thinking adds to the caller's limit on wires that count it into their own."""
    config = step.candidate.config
    if config is None or config.kind not in ("anthropic", "gemini", "vertex", "bedrock"):
        return 0
    try:
        reasoning = take_reasoning(given)
    except GatewayError:
        # The dialect refuses it in a moment.
        return 0
    if reasoning is None:
        return 0
    return max(reasoning.budget_tokens, min(BUDGET_TOKENS.values()))
