"""Accounting: what an attempt used and what it cost, by the provider's word where it gave one, else estimated."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import Choice, Usage
from maniac_core.domain.completions import UsageSource
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.estimate import estimate_answer_tokens
from maniac_core.providers.pricing.prices import Prices
from maniac_core.services.billing.price_ceiling import output_tokens, prompt_tokens
from maniac_core.services.billing.speeds import Speeds
from maniac_core.services.capture.attempt_log import Bill
from maniac_core.services.routing.planner import Step
from maniac_core.services.routing.router import Candidate


class Accountant:
    """Knows the prices, and how fast models are."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._speeds = Speeds()

    def learn(self, candidate: Candidate, usage: Usage, seconds: float) -> None:
        """Note what a whole answer used, and how long its request was under way."""
        self._speeds.learn(candidate, usage.completion_tokens, seconds)

    def generated(self, step: Step, seconds: float, pieces: int) -> int:
        """Return how many tokens may be generated of an answer so long after its request was sent.

        `pieces`: how many came of it.
        """
        if step.prompt.stream and pieces:
            # What was generated was received. Before that a model may have thought, which not all show.
            return pieces
        return min(self._speeds.tokens(step.candidate, seconds), output_tokens(step))

    def bill(
        self, candidate: Candidate, usage: Usage, source: UsageSource
    ) -> tuple[Bill, Prices | None]:
        """Return what a usage costs, and the price row it was reckoned with."""
        entry = self._catalogue.find(candidate.provider, candidate.model)
        prices = entry.prices(service_tier=usage.service_tier) if entry else None
        # The charge that the provider reports takes precedence over the catalogue.
        spend = usage.cost_nano_usd
        if spend is None and prices is not None:
            spend = prices.cost_nano_usd(usage)
        return Bill(usage=usage, source=source, spend_nano_usd=spend), prices


def usage_of(
    step: Step, choices: list[Choice], reported: Usage | None, generated: int = 0
) -> tuple[Usage, UsageSource]:
    """Return the usage of an answer, or of what there is of it: as reported, estimated as far as it was not.

    `generated`: output tokens that there may be of it though they did not come.

    Counts that are all zero are none. A prompt has tokens, and so has an answer with something in it: a provider that
    broke off may have counted the prompt only.
    """
    if reported is None or not reported.total_tokens:
        estimate = Usage(
            input_tokens=prompt_tokens(step),
            output_tokens=max(generated, estimate_answer_tokens(choices)),
            cost_nano_usd=reported.cost_nano_usd if reported else None,
            service_tier=reported.service_tier if reported else None,
        )
        return estimate, "estimated"
    if not reported.prompt_tokens:
        return msgspec.structs.replace(reported, input_tokens=prompt_tokens(step)), "estimated"
    answer = 0 if reported.completion_tokens else max(generated, estimate_answer_tokens(choices))
    if answer:
        return msgspec.structs.replace(reported, output_tokens=answer), "estimated"
    return reported, "provider"
