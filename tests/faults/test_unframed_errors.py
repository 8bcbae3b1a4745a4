"""Errors that a provider writes into a stream in whatever form: told as what they are, before and after content."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable

import pytest
from asking import Asked
from ledger import Ledger
from providers import Exchange, Handler, Providers

Ask = Callable[..., Asked]

MODELS = {"openai": "openai/m", "anthropic": "anthropic/claude-x", "gemini": "gemini/gemini-x"}
STARTS = {
    "openai": [
        {"choices": [{"index": 0, "delta": {"content": "Hi"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"model": "c", "content": []}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": "Hi"},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ],
    # Vertex says STOP on every chunk.
    "gemini": [{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}],
}
LIMITED = {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}
REFUSED = {"error": {"code": 400, "message": "No such thing.", "type": "invalid_request_error"}}
FORMS = {
    "unframed": lambda error: json.dumps(error).encode(),
    "on lines of its own": lambda error: json.dumps(error, indent=2).encode() + b"\n",
    "in a list": lambda error: json.dumps([error], indent=2).encode() + b"\r\n",
    "as data": lambda error: b"data: " + json.dumps(error).encode() + b"\n\n",
    "as data in a list": lambda error: b"data: " + json.dumps([error]).encode() + b"\n\n",
    "by name": lambda error: b"event: error\ndata: %b\n\n" % json.dumps(error["error"]).encode(),
}


def send(pieces: Iterable[bytes], *, end: bool) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            if piece:
                await exchange.chunk(piece)
        if end:
            await exchange.chunk(b"")
        else:
            await exchange.wait_until_gone()

    return handle


def begun(kind: str) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in STARTS[kind])


@pytest.mark.parametrize(
    ("error", "code"), [(LIMITED, "upstream_rate_limited"), (REFUSED, "upstream_rejected")]
)
@pytest.mark.parametrize("has_begun", [False, True], ids=["before content", "after content"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MODELS)
def test_an_error_in_a_stream_is_told_by_its_reason(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    *,
    kind: str,
    form: str,
    has_begun: bool,
    error: object,
    code: str,
) -> None:
    """Not as the end of the answer, although a finish reason has come, nor as a mere break."""
    data = (begun(kind) if has_begun else b"") + FORMS[form](error)
    dice = random.Random(f"{kind}{form}{has_begun}{code}")
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(4))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    providers.handlers[kind] = send(pieces, end=True)

    told = asked(MODELS[kind], stream=True)

    assert told.error is not None
    assert told.error.code == code
    assert told.finish_reason is None
    record = ledger.record(told.request_id)
    assert record["status"] == ("truncated" if has_begun else "failed")
    assert record["error_reason"] == code.upper()
    assert record["error_message"].endswith(("Slow down.", "No such thing."))


@pytest.mark.parametrize("kind", MODELS)
def test_an_error_is_told_although_the_connection_stays_open(
    asked: Ask, providers: Providers, kind: str
) -> None:
    """What is whole JSON needs no blank line after it."""
    data = begun(kind) + json.dumps(LIMITED, indent=2).encode()
    providers.handlers[kind] = send([data[:-20], data[-20:]], end=False)

    told = asked(MODELS[kind], stream=True)

    assert told.error is not None
    assert told.error.code == "upstream_rate_limited"
    assert told.elapsed_s < 10


@pytest.mark.parametrize("kind", MODELS)
def test_half_an_unframed_error_is_no_end(
    asked: Ask, providers: Providers, ledger: Ledger, kind: str
) -> None:
    """An error that is cut off cannot say its reason, but that it is one."""
    data = begun(kind) + json.dumps(LIMITED).encode()[:30]
    providers.handlers[kind] = send([data], end=True)

    told = asked(MODELS[kind], stream=True)

    assert told.error is not None
    assert told.error.code == "upstream_error"
    assert ledger.record(told.request_id)["status"] == "truncated"


@pytest.mark.parametrize("kind", MODELS)
def test_a_list_of_errors_is_read_in_a_whole_answer(
    asked: Ask, providers: Providers, kind: str
) -> None:
    """With status 200 as with another."""

    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, json.dumps([LIMITED]).encode())

    providers.handlers[kind] = handle
    for stream in (False, True):
        told = asked(MODELS[kind], stream=stream)
        assert (told.status, told.error.code) == (429, "upstream_rate_limited")
