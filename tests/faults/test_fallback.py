"""Fallback: the next candidate answers when the one before could not, and never when it should not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asking import Asked
from gateway import Gateway
from ledger import Ledger, trail
from providers import (
    Handler,
    Providers,
    body,
    chunk,
    events,
    hang,
    in_turn,
    provider_of,
    reset,
    status,
    text,
    then,
)

Ask = Callable[..., Asked]

FAULTS: dict[str, tuple[str, Handler | None, str]] = {
    "refused connection": ("unreachable", None, "failed"),
    "no connection": ("unconnected", None, "timeout"),
    "reset": ("main", reset, "failed"),
    "hang": ("hasty", hang, "timeout"),
    "408": ("main", status(408), "timeout"),
    "429": ("main", status(429), "failed"),
    "429 for long": ("main", status(429, headers={"retry_after": "3600"}), "failed"),
    "500": ("main", status(500), "failed"),
    "529": ("main", status(529), "failed"),
    "refused key": ("main", status(401), "failed"),
    "no credit": ("main", status(402), "failed"),
    "unknown model": ("main", status(404, code="model_not_found"), "failed"),
    "missing key": ("keyless", None, "skipped"),
    "HTML": ("main", body(b"<html>", "text/html"), "failed"),
    "error in a 200": ("main", body(b'{"error": {"message": "x", "code": 503}}'), "failed"),
}
STREAM_FAULTS: dict[str, tuple[str, Handler | None, str]] = {
    "empty stream": ("main", body(b"", "text/event-stream"), "failed"),
    "hang before the first token": ("hasty", then(events(*text(), end=False), hang), "timeout"),
    "cut before the first token": ("main", events(*text()), "failed"),
    "error frame first": ("main", events({"error": {"message": "x", "code": 503}}), "failed"),
}
CASES = [
    *[
        pytest.param(*fault, stream, id=f"{name}-{'stream' if stream else 'whole'}")
        for name, fault in FAULTS.items()
        for stream in (False, True)
    ],
    *[pytest.param(*fault, True, id=f"{name}-stream") for name, fault in STREAM_FAULTS.items()],
]


@pytest.mark.parametrize(("primary", "handler", "outcome", "stream"), CASES)
def test_a_failed_candidate_is_replaced_by_the_next(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    *,
    primary: str,
    handler: Handler | None,
    outcome: str,
    stream: bool,
) -> None:
    """The answer is whole, names who gave it, and its record holds both attempts."""
    if handler is not None:
        providers.handlers[primary] = handler

    told = asked(f"{primary}/m", stream=stream, extra_body={"models": ["spare/other"]})

    assert told.error is None
    assert told.text == "Hello!"
    assert (told.model, told.provider, told.container) == ("spare/other", "spare", None)
    assert told.usage.total_tokens == 12
    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("completed", "provider")
    assert (record["model"], record["provider"]) == ("spare/other", "spare")
    assert trail(record) == [(primary, outcome), ("spare", "ok")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_first_token_that_is_late_is_not_waited_for_twice(
    asked: Ask, providers: Providers, *, stream: bool
) -> None:
    """A breached deadline goes to the next candidate at once: the same upstream is not tried again."""
    providers.handlers["hasty"] = hang

    told = asked("hasty/m", stream=stream, extra_body={"models": ["spare/m"]})

    assert told.provider == "spare"
    assert len(providers.requests("hasty")) == 1


REFUSALS = {
    "bad request": status(400, "Bad.", param="temperature"),
    "refused content": status(400, "No.", code="content_filter"),
    "too large": status(413),
    "unprocessable": status(422),
    "too long, windows unknown": status(400, code="context_length_exceeded"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handler", [pytest.param(h, id=name) for name, h in REFUSALS.items()])
def test_a_refusal_is_final(
    asked: Ask, providers: Providers, ledger: Ledger, handler: Handler, *, stream: bool
) -> None:
    """What the provider says about the request would be no different elsewhere."""
    providers.handlers["main"] = handler

    told = asked("main/m", stream=stream, extra_body={"models": ["spare/m"]})

    assert told.status in (400, 413)
    assert not providers.requests("spare")
    assert trail(ledger.record(told.request_id)) == [("main", "failed")]


def test_a_filtered_answer_is_an_answer(asked: Ask, providers: Providers, ledger: Ledger) -> None:
    """content_filter as a finish reason reaches the client; nobody else is asked."""
    providers.handlers["main"] = events(chunk(None, finish_reason="content_filter"), "[DONE]")

    told = asked("main/m", stream=True, extra_body={"models": ["spare/m"]})

    assert (told.error, told.finish_reason) == (None, "content_filter")
    assert not providers.requests("spare")
    assert ledger.record(told.request_id)["status"] == "completed"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_goes_only_to_a_larger_window(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """Candidates with a smaller, the same or an unknown window are passed over."""

    async def by_model(exchange: Any) -> None:
        if exchange.json["model"] == "gpt-3.5-turbo":
            await status(400, "Too long.", code="context_length_exceeded")(exchange)
        else:
            await providers.good(exchange)

    providers.handlers["openai"] = by_model

    models = ["spare/m", "openai/gpt-4", "openai/gpt-4o"]
    told = asked("openai/gpt-3.5-turbo", stream=stream, extra_body={"models": models})

    assert told.model == "openai/gpt-4o"
    asked_for = [(provider_of(e), e.json["model"]) for e in providers.exchanges]
    assert asked_for == [("openai", "gpt-3.5-turbo"), ("openai", "gpt-4o")]
    assert trail(ledger.record(told.request_id)) == [("openai", "failed"), ("openai", "ok")]


def test_a_prompt_that_is_too_long_for_the_largest_is_the_callers_400(
    asked: Ask, providers: Providers
) -> None:
    """Without a larger window among the candidates the refusal stands."""
    providers.handlers["openai"] = status(400, "Too long.", code="context_length_exceeded")

    told = asked("openai/gpt-4o", stream=True, extra_body={"models": ["openai/gpt-4", "spare/m"]})

    assert (told.status, told.error.code) == (400, "context_length_exceeded")
    assert len(providers.exchanges) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_when_all_fail_the_last_that_was_called_has_the_word(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """A candidate without a key does not hide why the others failed."""
    providers.handlers["main"] = status(500, "First.")
    providers.handlers["spare"] = status(429, "Second.", headers={"retry_after": "30"})

    told = asked("main/m", stream=stream, extra_body={"models": ["spare/m", "keyless/m"]})

    assert told.status == 429
    assert "Second." in told.error.body["message"]
    assert told.error.response.headers["retry-after"] == "30"
    record = ledger.record(told.request_id)
    assert (record["status"], record["provider"]) == ("failed", "spare")
    assert trail(record) == [("main", "failed"), ("spare", "failed"), ("keyless", "skipped")]


def test_a_fallback_that_cannot_carry_the_request_does_not_blame_the_caller(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """The primary took the request and failed; that is what the client is told."""
    providers.handlers["main"] = status(500, "Boom.")
    messages = [{"role": "tool", "tool_call_id": "x", "content": "1"}]

    told = asked(
        "main/m", stream=False, messages=messages, extra_body={"models": ["anthropic/claude-x"]}
    )

    assert told.status == 502
    assert "Boom." in told.error.body["message"]
    record = ledger.record(told.request_id)
    assert trail(record) == [("main", "failed"), ("anthropic", "skipped")]


def test_a_candidate_without_a_key_alone_is_a_permanent_502(
    asked: Ask, ledger: Ledger, providers: Providers
) -> None:
    """Nobody was called, clients are told not to try again, and the record is not listed."""
    told = asked("keyless/m", stream=True)

    assert (told.status, told.error.code) == (502, "provider_key_missing")
    assert told.error.response.headers["x-should-retry"] == "false"
    assert ledger.record(told.request_id)["status"] == "rejected"
    assert not providers.exchanges


@pytest.mark.parametrize("stream", [False, True])
def test_a_container_can_be_the_fallback(
    asked: Ask, providers: Providers, gateway: Gateway, ledger: Ledger, *, stream: bool
) -> None:
    """The container's own defaults are sent to its model, and the answer names it."""
    label = f"fallback-{stream}".lower()
    container = {
        "label": label,
        "initial_model": "spare/tuned",
        "default_system_prompt": "Be brief.",
        "default_parameters": {"temperature": 0.5},
    }
    with gateway.client() as http:
        http.post("/v1/containers", json=container).raise_for_status()
    providers.handlers["main"] = status(500)

    told = asked("main/m", stream=stream, extra_body={"models": [f"maniac:{label}"]})

    assert (told.model, told.provider, told.container) == ("spare/tuned", "spare", label)
    sent = providers.requests("spare")[0].json
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert sent["temperature"] == 0.5
    assert "system" not in [m["role"] for m in providers.requests("main")[0].json["messages"]]
    assert ledger.record(told.request_id)["container_label"] == label


def test_unknown_and_repeated_fallbacks_are_passed_over(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """Each candidate is tried once, whatever the list says."""
    providers.handlers["main"] = in_turn(status(500))

    told = asked(
        "main/m", stream=True, extra_body={"models": ["main:m", "nobody/x", "main/m", "spare/m"]}
    )

    assert told.provider == "spare"
    assert trail(ledger.record(told.request_id)) == [("main", "failed"), ("spare", "ok")]
