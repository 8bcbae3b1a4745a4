"""Faults after the first content: what came is delivered, then an error; a broken answer never looks whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from asking import MESSAGES, Asked
from gateway import Gateway
from ledger import Ledger, text_of, trail
from providers import Exchange, Handler, Providers, chunk, events, hang, text, then

Ask = Callable[..., Asked]
END = chunk(None, finish_reason="stop")
USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}
ACCENT = 'data: {"choices": [{"index": 0, "delta": {"content": " caf\u00e9"}}]}\n\n'.encode()


class Break(NamedTuple):
    """How a stream breaks after "Half an answer" and what the client is told."""

    handler: Handler
    message: str
    code: str = "upstream_error"
    provider: str = "main"


def close(exchange: Exchange) -> None:
    exchange.close()


def abort(exchange: Exchange) -> None:
    exchange.reset()


async def half_a_character(exchange: Exchange) -> None:
    await exchange.chunk(ACCENT[: ACCENT.index(b"\xc3") + 1])
    exchange.close()


begun = events(*text("Half ", "an answer"), end=False)
BREAKS = {
    "cut": Break(then(begun, close), "^main broke off in the middle of its answer"),
    "reset": Break(then(begun, abort), "^main broke off in the middle of its answer"),
    "cut inside a UTF-8 character": Break(
        then(begun, half_a_character), "^main broke off in the middle of its answer"
    ),
    "a body that just ends": Break(events(*text("Half ", "an answer")), "^main ended its answer"),
    "stall": Break(then(begun, hang), "^idle sent nothing for 0.3 s", "upstream_timeout", "idle"),
    "error frame": Break(
        events(*text("Half ", "an answer"), {"error": {"message": "Out of memory.", "code": 503}}),
        "Out of memory",
        "upstream_overloaded",
    ),
    "broken off by its own word": Break(
        events(*text("Half ", "an answer"), chunk(None, finish_reason="error"), "[DONE]"), "broke"
    ),
}


@pytest.mark.parametrize("fault", [pytest.param(b, id=name) for name, b in BREAKS.items()])
def test_a_break_after_content_raises_and_is_recorded_as_truncated(
    asked: Ask, providers: Providers, ledger: Ledger, fault: Break
) -> None:
    """The client has the text so far and an exception; nothing else is tried; the record has the same text."""
    providers.handlers[fault.provider] = fault.handler

    told = asked(f"{fault.provider}/m", stream=True, extra_body={"models": ["spare/m"]})

    assert type(told.error) is openai.APIError
    assert told.error.code == fault.code
    assert re.search(fault.message, told.error.message)
    assert told.text == "Half an answer"
    assert told.finish_reason is None
    assert told.usage is None
    assert told.elapsed_s < 10
    assert not providers.requests("spare")
    record = ledger.record(told.request_id)
    assert record["status"] == "truncated"
    assert record["id"] == told.completion_id
    assert record["error_reason"] == fault.code.upper()
    assert record["usage_source"] == "estimated"
    assert record["output_tokens"] > 0
    assert text_of(record) == "Half an answer"
    assert trail(record) == [(fault.provider, "truncated")]
    assert record["attempts"][0]["http_status"] == 200


def test_a_broken_stream_ends_with_an_error_frame_and_the_end_marker(
    gateway: Gateway, providers: Providers
) -> None:
    """Status 200 stays, the last two frames are the error and [DONE], and no finish reason was sent."""
    providers.handlers["main"] = BREAKS["cut"].handler
    with gateway.client() as client:
        response = client.post(
            "/v1/chat/completions",
            json={"model": "main/m", "messages": MESSAGES, "stream": True},
        )

    frames = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert response.status_code == 200
    assert frames[-1] == "[DONE]"
    error = json.loads(frames[-2])["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("api_error", "upstream_error")
    reasons = [json.loads(frame)["choices"][0]["finish_reason"] for frame in frames[:-2]]
    assert set(reasons) == {None}


ODDITIES: dict[str, list[Any]] = {
    "malformed chunk": [*text("Whole ", "answer"), "{nonsense", END, USAGE, "[DONE]"],
    "missing finish_reason": [*text("Whole ", "answer"), USAGE, "[DONE]"],
    "missing [DONE]": [*text("Whole ", "answer"), END, USAGE],
    "empty finish_reason first": [
        chunk("Whole ", finish_reason=""),
        chunk("answer"),
        END,
        USAGE,
        "[DONE]",
    ],
    "two streams in one": [
        *text("Whole ", "answer"),
        END,
        USAGE,
        "[DONE]",
        *text("A second one"),
        END,
        USAGE,
        "[DONE]",
    ],
    "two streams in one without an end between": [
        *text("Whole ", "answer"),
        END,
        USAGE,
        *[{**part, "id": "upstream-2"} for part in [*text("A second one"), END]],
        "[DONE]",
    ],
}


@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in ODDITIES.items()])
def test_an_oddity_that_loses_nothing_is_put_right(
    asked: Ask, providers: Providers, ledger: Ledger, data: list[Any]
) -> None:
    """The client gets one answer with one finish reason, however the provider left its stream."""
    providers.handlers["main"] = events(*data)

    told = asked("main/m", stream=True)

    assert told.error is None
    assert (told.text, told.finish_reason) == ("Whole answer", "stop")
    assert told.usage.total_tokens == 12
    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("completed", "provider")
    assert text_of(record) == "Whole answer"
    assert trail(record) == [("main", "ok")]


def test_neither_finish_reason_nor_end_marker_is_a_break(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """Text that just ends, with nothing that says so, is not taken for an answer."""
    providers.handlers["main"] = events(*text("Half ", "an answer"), USAGE)

    told = asked("main/m", stream=True)

    assert type(told.error) is openai.APIError
    record = ledger.record(told.request_id)
    assert (record["status"], record["usage_source"]) == ("truncated", "provider")


def test_a_whole_answer_to_a_streamed_request_becomes_a_stream(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A server that does not stream answers all the same."""

    async def whole(exchange: Exchange) -> None:
        await exchange.answer("All at once.")

    providers.handlers["main"] = whole

    told = asked("main/m", stream=True)

    assert (told.text, told.finish_reason) == ("All at once.", "stop")
    assert told.usage.total_tokens == 12
    assert ledger.record(told.request_id)["status"] == "completed"


def test_comments_of_the_provider_are_no_life_sign(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A provider that sends nothing but comments after its first words breaches the idle deadline."""

    async def comment(exchange: Exchange) -> None:
        await begun(exchange)
        gone = False
        while not gone:
            try:
                await exchange.chunk(b": still here\n\n")
                gone = await exchange.is_gone_within(0.05)
            except ConnectionError:
                gone = True

    providers.handlers["idle"] = comment

    told = asked("idle/m", stream=True)

    assert told.error.code == "upstream_timeout"
    assert 0.3 <= told.elapsed_s < 10
    assert ledger.record(told.request_id)["status"] == "truncated"


def test_a_stream_kept_alive_before_its_first_token_fails_in_a_frame(
    gateway: Gateway, providers: Providers, ledger: Ledger
) -> None:
    """Once a comment has left, the status is 200 and a failure is an error frame."""
    providers.handlers["late"] = hang
    with gateway.client() as client:
        response = client.post(
            "/v1/chat/completions",
            json={"model": "late/m", "messages": MESSAGES, "stream": True},
            headers={"x-request-id": "kept-alive"},
        )

    parts = [part for part in response.text.split("\n\n") if part]
    assert isinstance(response, httpx.Response)
    assert response.status_code == 200
    assert parts[0].startswith(":")
    assert json.loads(parts[-2].removeprefix("data: "))["error"]["code"] == "upstream_timeout"
    assert parts[-1] == "data: [DONE]"
    assert ledger.record("kept-alive")["status"] == "failed"
