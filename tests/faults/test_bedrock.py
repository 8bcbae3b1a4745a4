"""Amazon Bedrock: signed requests, answers and streams in its own framing, and what may become of these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import event_frames as frames
import pytest
from asking import Asked
from gateway import Gateway
from ledger import Ledger
from providers import Exchange, Handler, Providers, body

Ask = Callable[..., Asked]
MODEL = "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
USAGE = {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}


def text(words: str) -> bytes:
    delta = {"contentBlockIndex": 0, "delta": {"text": words}}
    return frames.event("contentBlockDelta", delta)


END = [
    frames.event("contentBlockStop", {"contentBlockIndex": 0}),
    frames.event("messageStop", {"stopReason": "end_turn"}),
    frames.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}}),
]
WHOLE = [frames.event("messageStart", {"role": "assistant"}), text("Hello "), text("you."), *END]


def stream(pieces: Iterable[bytes], *, cut: bool = False) -> Handler:
    """Send frames in pieces of chunked framing, which a cut leaves open."""

    async def handle(exchange: Exchange) -> None:
        await exchange.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for piece in pieces:
            await exchange.chunk(piece)
        if cut:
            exchange.close()
        else:
            await exchange.chunk(b"")

    return handle


def failing(status: int, name: str, words: str) -> Handler:
    async def handle(exchange: Exchange) -> None:
        data = json.dumps({"message": words}).encode()
        await exchange.respond(status, data, x_amzn_errortype=name)

    return handle


ANSWER = body(
    json.dumps(
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hello you."}]}},
            "stopReason": "end_turn",
            "usage": USAGE,
        }
    ).encode()
)


@pytest.mark.parametrize("stream_", [False, True])
def test_a_request_is_signed_and_its_answer_read(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream_: bool
) -> None:
    """Whole and streamed, with the provider's counts and a price."""
    providers.handlers["bedrock"] = stream(WHOLE) if stream_ else ANSWER

    told = asked(MODEL, stream=stream_, max_tokens=7)

    assert (told.text, told.finish_reason, told.error) == ("Hello you.", "stop", None)
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (9, 5)
    [exchange] = providers.requests("bedrock")
    method = "converse-stream" if stream_ else "converse"
    assert exchange.path.endswith(f"/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/{method}")
    signed = exchange.headers["authorization"]
    assert signed.startswith("AWS4-HMAC-SHA256 Credential=AKID/")
    assert "/eu-west-1/bedrock/aws4_request" in signed
    sent: dict[str, Any] = exchange.json
    assert sent["inferenceConfig"] == {"maxTokens": 7}
    record = ledger.record(told.request_id)
    assert record["usage_source"] == "provider"
    assert record["spend_nano_usd"] > 0


@pytest.mark.parametrize("size", [1, 7, 100])
def test_chopping_changes_nothing(asked: Ask, providers: Providers, size: int) -> None:
    """However the frames arrive."""
    data = b"".join(WHOLE)
    providers.handlers["bedrock"] = stream(
        [data[start : start + size] for start in range(0, len(data), size)]
    )
    told = asked(MODEL, stream=True)
    assert (told.text, told.finish_reason, told.error) == ("Hello you.", "stop", None)


def _flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


@pytest.mark.parametrize(
    "pieces",
    [
        [*WHOLE[:3], frames.exception("throttlingException", {"message": "Slow down."})],
        [*WHOLE[:3], frames.exception("modelStreamErrorException", {"message": "It broke."})],
        [*WHOLE[:3], _flipped(text("more"), 2)],
        [*WHOLE[:3], _flipped(text("more"), -5), *END],
        [*WHOLE[:3], text("more")[:-1]],
        WHOLE[:3],
    ],
    ids=["throttled", "broken", "prelude", "payload", "half a frame", "no end"],
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_is_not_whole_is_an_error(
    asked: Ask, providers: Providers, ledger: Ledger, pieces: list[bytes], *, cut: bool
) -> None:
    """After the text that came before; it never looks like an end."""
    providers.handlers["bedrock"] = stream(pieces, cut=cut)
    told = asked(MODEL, stream=True)
    assert told.text == "Hello you."
    assert told.error is not None
    assert told.finish_reason is None
    assert ledger.record(told.request_id)["status"] in ("failed", "truncated")


@pytest.mark.parametrize("stream_", [False, True])
@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (failing(429, "ThrottlingException", "Too many requests."), "upstream_rate_limited"),
        (failing(400, "ValidationException", "The messages are odd."), "upstream_rejected"),
        (failing(503, "ServiceUnavailableException", "Later."), "upstream_overloaded"),
        (
            failing(400, "ValidationException", "The provided model identifier is invalid."),
            "model_not_found",
        ),
        (failing(403, "ExpiredTokenException", "The token has expired."), "upstream_auth"),
    ],
)
def test_failures_are_told_as_those_of_others(
    asked: Ask, providers: Providers, handler: Handler, code: str, *, stream_: bool
) -> None:
    """By their names."""
    providers.handlers["bedrock"] = handler
    told = asked(MODEL, stream=stream_)
    assert told.error.code == code
    assert "secret-of-aws" not in str(told.error)


def test_an_exception_before_the_first_content_falls_back(
    gateway: Gateway, providers: Providers
) -> None:
    """As any failure then."""
    providers.handlers["bedrock"] = stream(
        [WHOLE[0], frames.exception("serviceUnavailableException", {"message": "Later."})]
    )
    with gateway.client() as http:
        response = http.post(
            "/v1/chat/completions",
            json={
                "model": MODEL,
                "models": ["spare/m"],
                "messages": [{"role": "user", "content": "Hi"}],
                "stream": True,
            },
        )
    assert response.status_code == 200
    assert '"provider":"spare"' in response.text
    assert "error" not in response.text
