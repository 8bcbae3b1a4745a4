"""What decides about money, in process: ceilings, estimates, bills, speeds and what is reserved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.budgets import Hold
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Choice, Usage
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.base import Prompt
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.estimate import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    estimate_prompt_tokens,
)
from maniac_core.providers.pricing.prices import Prices
from maniac_core.providers.pricing.prompt_bound import most_text_tokens
from maniac_core.services.billing.price_ceiling import (
    ceiling_nano_usd,
    most_prompt_tokens,
    output_tokens,
)
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.billing.speeds import USUAL, Speeds
from maniac_core.services.billing.spending import Spending
from maniac_core.services.capture.accounting import Accountant, usage_of
from maniac_core.services.capture.attempt_log import Bill, Trail
from maniac_core.services.routing.planner import Step
from maniac_core.services.routing.router import Candidate
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.budgets import BudgetStore

CALLER = Caller(
    key=1, project=1, organization=1, project_id="p", organization_id="o", is_budgeted=True
)
FILE = [{"type": "file", "file": {"file_id": "file-1"}}]


def step(
    slug: str = "openai/gpt-4o",
    *,
    content: Any = "Hi",
    stream: bool = False,
    unpriced: str = "refuse",
    kind: str = "openai",
    limits: tuple[int | None, int | None] = (16_384, 128_000),
    **parameters: Any,
) -> Step:
    provider, _, model = slug.partition("/")
    config = ProviderConfig(
        kind=cast("Any", kind), base_url="http://h/v1", unpriced=cast("Any", unpriced)
    )
    return Step(
        candidate=Candidate(slug=slug, provider=provider, model=model, config=config),
        prompt=Prompt(
            messages=[{"role": "user", "content": content}], parameters=parameters, stream=stream
        ),
        max_output_tokens=limits[0],
        context_window=limits[1],
    )


@pytest.mark.parametrize(
    ("parameters", "limits", "kind", "most"),
    [
        ({"max_tokens": 10}, (100, 1_000), "openai", 10),
        ({"max_completion_tokens": 20, "max_tokens": 10}, (100, 1_000), "openai", 20),
        ({"max_tokens": 10_000}, (100, 1_000), "openai", 100),
        ({"max_tokens": 10_000}, (None, 1_000), "openai", 10_000),
        ({"max_tokens": None}, (100, 1_000), "openai", 100),
        ({"max_tokens": -5}, (100, 1_000), "openai", 0),
        ({}, (100, 1_000), "openai", 100),
        ({}, (None, 1_000), "openai", 1_000),
        ({}, (None, None), "openai", 16_384),
        # Thinking comes on top where the wire counts it into the limit.
        ({"max_tokens": 10, "reasoning": {"effort": "low"}}, (None, None), "anthropic", 10 + 4_096),
        ({"max_tokens": 10, "reasoning": {"max_tokens": 2_000}}, (None, None), "gemini", 2_010),
        ({"max_tokens": 10, "reasoning": {"effort": "low"}}, (None, None), "openai", 10),
        ({"max_tokens": 10, "prediction": "x" * 98}, (100, 1_000), "openai", 10 + 100),
    ],
)
def test_the_longest_answer(
    parameters: dict[str, Any], limits: tuple[int | None, int | None], kind: str, most: int
) -> None:
    """The caller's limit, else the model's, else its window."""
    assert output_tokens(step(kind=kind, limits=limits, **parameters)) == most


@pytest.mark.parametrize(
    ("prices", "tokens", "may_hear", "nano"),
    [
        (Prices(input=1_000_000, output=2_000_000), (10, 5), False, 20),
        (Prices(input=1_000_000, output=2_000_000, reasoning=9_000_000), (10, 5), False, 55),
        (Prices(input=4, output=4, cache_write_1h=3_000_000), (10, 0), False, 30),
        (Prices(input=1_000_000, output=0, request=7_000_000), (10, 5), False, 17),
        (Prices(input=1, output=0), (1, 0), False, 1),
        (Prices(input=1_000_000, output=0, input_audio=8_000_000), (10, 0), False, 10),
        (Prices(input=1_000_000, output=0, input_audio=8_000_000), (10, 0), True, 80),
        (Prices(input=1_000_000), (10, 5), False, None),
        (
            Prices(input=1_000_000, output=0, above=((9, Prices(input=2_000_000, output=0)),)),
            *((10, 0), False, 20),
        ),
        (
            Prices(input=3_000_000, output=0, above=((9, Prices(input=2_000_000, output=0)),)),
            *((10, 0), False, 30),
        ),
    ],
)
def test_the_most_that_tokens_cost(
    prices: Prices,
    tokens: tuple[int, int],
    may_hear: bool,
    nano: int | None,
) -> None:
    """At the dearest price that may hold for them, rounded up."""
    assert prices.ceiling_nano_usd(*tokens, may_hear=may_hear) == nano


def test_the_most_that_a_step_costs() -> None:
    """The bound of its prompt and its longest answer, by the catalogue; a tier at its own prices."""
    catalogue = Catalogue({})
    asked = step(max_tokens=100, content="1" * 1_000)
    prompt = most_prompt_tokens(asked)
    assert 1_000 < prompt < 1_200
    assert ceiling_nano_usd(asked, catalogue) == prompt * 2_500 + 100 * 10_000
    flex = step(max_tokens=100, content="1" * 1_000, service_tier="priority")
    dearer = ceiling_nano_usd(flex, catalogue)
    assert dearer is not None
    assert dearer >= prompt * 2_500 + 100 * 10_000
    assert ceiling_nano_usd(step("strange/m1"), catalogue) is None
    with pytest.raises(GatewayError) as refused:
        ceiling_nano_usd(step(content=FILE), catalogue)
    assert refused.value.reason == Reason.ERROR_REASON_INSUFFICIENT_BALANCE
    assert refused.value.param == "messages[0].content[0].file"


TEXT = "A dozen words of an answer, more or less, to be counted."


@pytest.mark.parametrize(
    ("reported", "text", "generated", "output", "source"),
    [
        (Usage(input_tokens=9, output_tokens=3), TEXT, 0, 3, "provider"),
        (Usage(input_tokens=9), None, 0, 0, "provider"),
        (Usage(input_tokens=9), TEXT, 0, 14, "estimated"),
        (Usage(input_tokens=9, reasoning_tokens=2), TEXT, 0, 0, "provider"),
        (Usage(), TEXT, 0, 14, "estimated"),
        (None, TEXT, 0, 14, "estimated"),
        (None, None, 70, 70, "estimated"),
        (None, TEXT, 5, 14, "estimated"),
        (None, None, 0, 0, "estimated"),
        (Usage(input_tokens=9), TEXT, 40, 40, "estimated"),
        (Usage(input_tokens=9, output_tokens=3), TEXT, 40, 3, "provider"),
    ],
)
def test_usage_is_the_providers_word_or_else_an_estimate(
    reported: Usage | None, text: str | None, generated: int, output: int, source: str
) -> None:
    """What was generated and did not come counts as little as what came and was not counted."""
    message = {"role": "assistant", "content": text}
    choices = [Choice(index=0, message=message, finish_reason=None)]
    usage, where = usage_of(step(), choices, reported, generated)
    assert (usage.output_tokens, where) == (output, source)
    assert usage.prompt_tokens == (9 if reported and reported.total_tokens else 1 + MESSAGE_TOKENS)


@pytest.mark.parametrize(
    ("slug", "usage", "nano"),
    [
        ("openai/gpt-4o", Usage(input_tokens=10, output_tokens=1), 35_000),
        ("openai/gpt-4o", Usage(input_tokens=10, output_tokens=1, cost_nano_usd=7), 7),
        ("openai/gpt-4o", Usage(), 0),
        ("strange/m1", Usage(input_tokens=10, output_tokens=1), None),
        ("strange/m1", Usage(input_tokens=10, output_tokens=1, cost_nano_usd=7), 7),
        ("openrouter/meta-llama/llama-3.3-70b-instruct:free", Usage(input_tokens=10), 0),
    ],
)
def test_a_bill_is_what_the_provider_says_or_the_catalogue(
    slug: str, usage: Usage, nano: int | None
) -> None:
    """An unknown price is never 0."""
    bill, _ = Accountant(Catalogue({})).bill(step(slug).candidate, usage, "provider")
    assert bill.spend_nano_usd == nano


def test_images_are_estimated_by_the_rules_of_their_family() -> None:
    """Of a model that is not known, an image is an ordinary one."""
    content = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    message = {"role": "user", "content": content}
    assert estimate_prompt_tokens([message], {}, "gpt-4o-mini") > 20_000
    assert estimate_prompt_tokens([message], {}, "my-own") == IMAGE_TOKENS + MESSAGE_TOKENS
    named = {"role": "user", "content": FILE}
    assert 0 < estimate_prompt_tokens([named], {}, "gpt-4o") < 10_000


def test_a_speed_follows_the_answers_that_pass() -> None:
    """A fast one counts at once, slow ones little by little, tiny ones not at all."""
    speeds, model, other = Speeds(), step().candidate, step("openai/o3").candidate
    assert speeds.tokens(model, 2.0) == 2 * USUAL
    speeds.learn(model, 3, 10.0)
    speeds.learn(model, 100, 0.001)
    assert speeds.tokens(model, 2.0) == 2 * USUAL
    speeds.learn(model, 50, 1.0)
    assert speeds.tokens(model, 2.0) == 100
    speeds.learn(model, 300, 1.0)
    assert speeds.tokens(model, 2.0) == 600
    for _ in range(100):
        speeds.learn(model, 50, 1.0)
    assert 100 <= speeds.tokens(model, 2.0) < 110
    assert speeds.tokens(model, -1.0) == 0
    assert speeds.tokens(other, 1.0) == USUAL


@pytest.mark.parametrize(
    ("asked", "pieces", "tokens"),
    [
        (step(), 0, 1_000),
        (step(max_tokens=30), 0, 30),
        (step(stream=True), 7, 7),
        (step(stream=True), 0, 1_000),
    ],
)
def test_what_may_have_been_generated(asked: Step, pieces: int, tokens: int) -> None:
    """At most what was reserved; of a stream only what came, once something came."""
    assert Accountant(Catalogue({})).generated(asked, 10.0, pieces) == tokens


class Money:
    """Reservations against one budget, without a database."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.is_away = False

    async def take(self, caller: Caller, amount: int) -> Hold | None:
        """Reserve."""
        del caller
        if self.is_away:
            raise StorageError("away")
        if amount > self.left:
            return None
        self.left -= amount
        return Hold(id=f"h{self.left}", amount_nano_usd=amount, windows=((1, 0),))

    def keep(self, holds: object) -> None:
        """Do nothing."""

    def recall_of(self, caller: Caller) -> bool:
        """Hold nothing ahead."""
        del caller
        return False

    async def check(self, *_: object) -> list[Any]:
        """Know of no budget."""
        return []


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def spending(money: Money) -> Spending:
    return Spending(cast("BudgetStore", money), cast("Reservations", money), Catalogue({}))


def reserved(gate: Spending, asked: Step, loop: asyncio.AbstractEventLoop) -> int | None:
    """Return what is reserved for a request; None: nothing at all."""
    holds = loop.run_until_complete(gate.cover(CALLER, asked, Trail(), None))
    return holds.total_nano_usd if holds is not None else None


def test_a_free_model_finds_its_budgets_and_learns_what_it_costs(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Next to nothing is reserved until its provider reports a charge; without a database, or money, it passes."""
    money = Money(10_000)
    gate = spending(money)
    own = step("own/m1", unpriced="allow")
    for asked in (step("openrouter/meta-llama/llama-3.3-70b-instruct:free"), own):
        assert reserved(gate, asked, loop) == 1
        gate.learn(asked, 300)
        gate.learn(asked, 200)
        assert reserved(gate, asked, loop) == 300
    assert reserved(gate, step("local/m1", unpriced="allow"), loop) is None
    money.is_away = True
    assert reserved(gate, step("own/m2", unpriced="allow"), loop) is None
    money.is_away, money.left = False, 0
    assert reserved(gate, step("own/m2", unpriced="allow"), loop) is None
    with pytest.raises(GatewayError):
        reserved(gate, step("strange/m1"), loop)


def test_a_further_attempt_is_covered_besides_what_earlier_ones_cost(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """The same step is reserved for once until it was called; a dearer one takes the difference."""
    gate = spending(Money(10**12))
    cheap, dear = step("openai/gpt-4o-mini", max_tokens=10), step(max_tokens=1_000)
    trail = Trail()
    holds = loop.run_until_complete(gate.cover(CALLER, cheap, trail, None))
    assert holds is not None
    assert loop.run_until_complete(gate.cover(CALLER, cheap, trail, holds)) is holds
    assert len(holds.taken) == 1
    trail.begin(cheap)
    trail.bill(Bill(usage=Usage(), source="provider", spend_nano_usd=123), holds.worst_nano_usd)
    trail.end("failed")
    assert loop.run_until_complete(gate.cover(CALLER, dear, trail, holds)) is holds
    ceiling = ceiling_nano_usd(dear, Catalogue({}))
    assert ceiling is not None
    assert holds.worst_nano_usd == ceiling
    assert holds.total_nano_usd == ceiling + 123


def test_a_long_text_is_bounded_quickly() -> None:
    """Whoever else is served waits meanwhile."""
    started = time.perf_counter()
    assert most_text_tokens("a word and another " * 500_000) > 4_000_000
    assert time.perf_counter() - started < 0.5
