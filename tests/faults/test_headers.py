"""What the head of an answer says about how it came about."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from asking import MESSAGES
from gateway import Gateway
from providers import Providers, after, events, in_turn, status


def head(gateway: Gateway, model: str, *, stream: bool, **parameters: Any) -> dict[str, str]:
    """Ask and return the headers of the answer."""
    body = {"model": model, "messages": MESSAGES, "stream": stream, **parameters}
    with gateway.client() as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    return dict(response.headers)


def durations(header: str) -> dict[str, float]:
    """Return the milliseconds of each part of a Server-Timing header."""
    parts = [re.fullmatch(r"([a-z-]+);dur=(\d+\.\d)", part) for part in header.split(", ")]
    assert all(parts), header
    return {part[1]: float(part[2]) for part in parts if part}


def claude(*, stream: bool) -> Any:
    """An answer of Anthropic's."""
    message = {
        "type": "message",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    if stream:
        return events(
            {"type": "message_start", "message": {**message, "stop_reason": None}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            {"type": "message_stop"},
        )

    async def answer(exchange: Any) -> None:
        await exchange.respond(200, json.dumps(message).encode())

    return answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "parameters", "dropped"),
    [
        ("main/m", {"temperature": 1}, None),
        ("main/m", {"logprobs": False}, None),
        ("main/m", {"logprobs": True, "top_logprobs": 2}, "logprobs,top_logprobs"),
        ("anthropic/claude-x", {"temperature": 0.5}, None),
        ("anthropic/claude-x", {"seed": 1, "logit_bias": {"1": 2}}, "logit_bias,seed"),
        ("anthropic/claude-x", {"logprobs": True, "seed": 1}, "logprobs,seed"),
    ],
)
def test_dropped_parameters_are_named(
    gateway: Gateway,
    providers: Providers,
    model: str,
    parameters: dict[str, Any],
    dropped: str | None,
    *,
    stream: bool,
) -> None:
    """X-Maniac-Dropped-Params names what the gateway and the dialect left out, and is absent otherwise."""
    providers.handlers["anthropic"] = claude(stream=stream)

    headers = head(gateway, model, stream=stream, **parameters)

    named = headers.get("x-maniac-dropped-params")
    assert (named and ",".join(sorted(named.split(",")))) == dropped


@pytest.mark.parametrize("stream", [False, True])
def test_dropped_audio_is_named(gateway: Gateway, providers: Providers, *, stream: bool) -> None:
    """Audio parts are removed, and the answer says so."""
    audio = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    content = [{"type": "text", "text": "Hi"}, audio]

    headers = head(
        gateway, "main/m", stream=stream, messages=[{"role": "user", "content": content}]
    )

    assert headers["x-maniac-dropped-params"] == "input_audio"
    assert "input_audio" not in providers.last.body.decode()


@pytest.mark.parametrize("stream", [False, True])
def test_server_timing_tells_the_provider_from_the_gateway(
    gateway: Gateway, providers: Providers, *, stream: bool
) -> None:
    """A slow provider shows under upstream and first-token, and not under queue and gateway."""
    providers.handlers["main"] = after(0.5, providers.good)

    timing = durations(head(gateway, "main/m", stream=stream)["server-timing"])

    assert timing.keys() == {"queue", "upstream", "first-token", "gateway"}
    assert timing["upstream"] >= 500
    assert timing["first-token"] >= 500
    assert timing["queue"] < 500
    assert timing["gateway"] < 500


@pytest.mark.parametrize("stream", [False, True])
def test_pauses_between_tries_are_the_providers_time(
    gateway: Gateway, providers: Providers, *, stream: bool
) -> None:
    """Waiting for a provider that wanted a pause is no overhead of the gateway."""
    wish = {"retry_after_ms": "600"}
    providers.handlers["again"] = in_turn(status(429, headers=wish), providers.good)

    timing = durations(head(gateway, "again/m", stream=stream)["server-timing"])

    assert timing["upstream"] >= 600
    assert timing["gateway"] < 600
