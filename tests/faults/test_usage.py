"""Usage and cost on every outcome: the provider's own numbers where there are any, flagged estimates where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, chunk, events, in_turn, status, text

Ask = Callable[..., Asked]
END = chunk(None, finish_reason="stop")


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"choices": [], "usage": {**counts, "total_tokens": prompt + completion, **more}}


def whole(counts: dict[str, Any] | None) -> Handler:
    async def handle(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"content": "Hi there."}, "finish_reason": "stop"}
        answer = {"choices": [choice], "usage": counts}
        await exchange.respond(200, json.dumps(answer).encode())

    return handle


@pytest.mark.parametrize("wanted", [True, False])
def test_streams_always_ask_for_usage_and_pass_it_on_only_when_asked(
    asked: Ask, providers: Providers, ledger: Ledger, *, wanted: bool
) -> None:
    """The provider is asked whatever the client wants, and the record has its numbers either way."""
    told = asked("main/m", stream=True, stream_options={"include_usage": wanted})

    assert providers.last.json["stream_options"] == {"include_usage": True}
    assert (told.usage is not None) is wanted
    record = ledger.record(told.request_id)
    assert (record["usage_source"], record["input_tokens"]) == ("provider", 9)


@pytest.mark.parametrize("counts", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_counts_nothing_is_estimated(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    counts: dict[str, Any] | None,
    *,
    stream: bool,
) -> None:
    """No numbers and zeros are the same; the client gets the estimate that the record flags."""
    data = [*text("Hi there."), END, *([{"choices": [], "usage": counts}] if counts else [])]
    providers.handlers["main"] = events(*data, "[DONE]") if stream else whole(counts)

    told = asked("main/m", stream=stream)

    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("completed", "estimated")
    assert told.usage.prompt_tokens == record["input_tokens"] > 0
    assert told.usage.completion_tokens == record["output_tokens"] > 0


def test_a_truncated_stream_keeps_what_the_provider_had_counted(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A provider that counts as it goes is believed up to where it broke off."""
    providers.handlers["main"] = events(*text("Hi"), usage(9, 1), *text(" you"), usage(9, 2))

    told = asked("main/m", stream=True)

    assert told.error is not None
    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("truncated", "provider")
    assert (record["input_tokens"], record["output_tokens"]) == (9, 2)


def test_a_prompt_counted_at_the_start_is_kept_and_the_rest_estimated(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """Anthropic counts the prompt, cached part included, before the answer: only the output has to be estimated."""
    counts = {"input_tokens": 30, "cache_read_input_tokens": 500, "output_tokens": 1}
    start = {"model": "claude-x", "content": [], "usage": counts}
    delta = {"type": "text_delta", "text": "Half an answer"}
    providers.handlers["anthropic"] = events(
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
    )

    told = asked("anthropic/claude-x", stream=True)

    assert (told.text, told.error.code) == ("Half an answer", "upstream_error")
    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("truncated", "estimated")
    assert (record["input_tokens"], record["cache_read_tokens"]) == (30, 500)
    assert record["output_tokens"] == 4


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_provider_charged_wins_over_the_catalogue(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """A cost in the usage is the spend, although the model has a price."""
    counts = usage(100, 10, cost=0.25)
    providers.handlers["openai"] = (
        events(*text("Hi"), END, counts, "[DONE]") if stream else whole(counts["usage"])
    )

    told = asked("openai/gpt-4o", stream=stream)

    assert ledger.record(told.request_id)["spend_nano_usd"] == 250_000_000


def test_tokens_without_a_cost_are_priced_by_the_catalogue(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """Known prices make a spend; unknown ones make none, never 0."""
    for name in ("openai", "main"):
        providers.handlers[name] = events(*text("Hi"), END, usage(1000, 100), "[DONE]")

    priced = ledger.record(asked("openai/gpt-4o", stream=True).request_id)
    unpriced = ledger.record(asked("main/m", stream=True).request_id)

    # 1000 tokens at 2.50 and 100 at 10 USD per million.
    assert priced["spend_nano_usd"] == 3_500_000
    assert unpriced["spend_nano_usd"] is None


def test_a_failed_attempt_is_billed_beside_the_one_that_answered(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """What the first candidate charged before it failed is in the spend; the usage is that of the answer."""
    providers.handlers["main"] = events(*text(), usage(50, 0, cost=0.5))
    providers.handlers["spare"] = events(*text("Hi"), END, usage(9, 3, cost=0.25), "[DONE]")

    told = asked("main/m", stream=True, extra_body={"models": ["spare/m"]})

    record = ledger.record(told.request_id)
    assert trail(record) == [("main", "failed"), ("spare", "ok")]
    assert [a["spend_nano_usd"] for a in record["attempts"]] == [500_000_000, 250_000_000]
    assert [a["input_tokens"] for a in record["attempts"]] == [50, 9]
    assert record["spend_nano_usd"] == 750_000_000
    assert told.usage.total_tokens == record["input_tokens"] + record["output_tokens"] == 12


def test_attempts_that_all_failed_are_billed_together(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A request without an answer has the usage and the spend of everything that was tried for it."""
    providers.handlers["main"] = events(*text(), usage(50, 0, cost=0.5))
    providers.handlers["spare"] = events(*text(), usage(9, 0, cost=0.25))

    told = asked("main/m", stream=True, extra_body={"models": ["spare/m"]})

    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("failed", "provider")
    assert record["input_tokens"] == 59
    assert record["spend_nano_usd"] == 750_000_000


def test_what_was_refused_costs_nothing(asked: Ask, providers: Providers, ledger: Ledger) -> None:
    """Attempts that a provider turned away carry no tokens, and the retry that answered is billed alone."""
    providers.handlers["again"] = in_turn(
        status(429), status(503), events(*text("Hi"), END, usage(9, 3, cost=0.25), "[DONE]")
    )

    told = asked("again/m", stream=True)

    record = ledger.record(told.request_id)
    assert [a["input_tokens"] for a in record["attempts"]] == [None, None, 9]
    assert record["spend_nano_usd"] == 250_000_000
