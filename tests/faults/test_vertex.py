"""Vertex AI: what is asked for with which credentials, and answers and failures of both publishers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Asked
from gateway import Gateway
from providers import Providers, body, status
from recordings import load, named
from test_recordings import ask_for, play, without_ids

Ask = Callable[..., Asked]
CLAUDE = named("anthropic-stream-parts-thinking-01", "anthropic-stream-tools-01")
_PLACE = "/vertex/v1/projects/p-1/locations/europe-west1/publishers"
_NOT_FOUND = (
    b'[{"error": {"code": 404, "status": "NOT_FOUND", "message": "Publisher Model '
    b'`projects/p-1/locations/l/publishers/google/models/gemini-none` not found."}}]'
)


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        ("gemini-2.5-flash", False, "/google/models/gemini-2.5-flash:generateContent"),
        ("gemini-2.5-flash", True, "/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (
            "claude-sonnet-4-5@20250929",
            False,
            "/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
        ),
        ("claude-opus-4-1", True, "/anthropic/models/claude-opus-4-1:streamRawPredict"),
        ("../../gemini", False, "/google/models/..%2F..%2Fgemini:generateContent"),
    ],
)
def test_the_publisher_is_asked_in_its_own_form_with_a_token(
    asked: Ask, providers: Providers, model: str, *, stream: bool, path: str
) -> None:
    """No model stands in a body that its address names, and the token is that of the service account."""
    asked(f"vertex/{model}", stream=stream, max_tokens=7)

    [exchange] = providers.requests("vertex")
    assert exchange.path == _PLACE + path
    assert exchange.headers["authorization"] == "Bearer token-of-google"
    assert "x-api-key" not in exchange.headers
    sent: dict[str, Any] = exchange.json
    if "claude" in model:
        assert "model" not in sent
        assert sent["anthropic_version"] == "vertex-2023-10-16"
        assert (sent["max_tokens"], sent["stream"]) == (7, stream)
    else:
        assert sent["generationConfig"]["maxOutputTokens"] == 7
        assert sent["contents"] == [{"role": "user", "parts": [{"text": "Hi there"}]}]


@pytest.mark.parametrize("path", CLAUDE)
def test_claude_answers_as_at_home(gateway: Gateway, providers: Providers, path: Path) -> None:
    """The same recording is the same answer at Anthropic and at Vertex AI."""
    recording = load(path)
    providers.handlers["anthropic"] = providers.handlers["vertex"] = play(recording)

    at_home = ask_for(gateway, recording)
    at_vertex = ask_for(gateway, dataclasses.replace(recording, model="vertex/claude-opus-4-1"))

    assert at_vertex.is_whole
    assert without_ids(at_vertex) == without_ids(at_home)
    assert at_vertex.usage == at_home.usage


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["vertex/gemini-2.5-flash", "vertex/claude-opus-4-1"])
def test_failures_are_told_as_those_of_others(
    asked: Ask, providers: Providers, model: str, *, stream: bool
) -> None:
    """A model that is not there, a limit, and credentials that may not do it."""
    told = {}
    for name, handler in (
        ("limited", status(429, "Quota exceeded.", status="RESOURCE_EXHAUSTED")),
        ("forbidden", status(403, "Permission denied on resource.", status="PERMISSION_DENIED")),
        ("absent", status(404, _NOT_FOUND.decode(), status="NOT_FOUND")),
    ):
        providers.handlers["vertex"] = handler
        told[name] = asked(model, stream=stream).error

    assert told["limited"].code == "upstream_rate_limited"
    assert told["absent"].code == "model_not_found"
    assert told["forbidden"].code == "upstream_auth"
    assert told["forbidden"].body["message"] == (
        "vertex refused the gateway's key; check what the credentials of [providers.vertex] may do."
    )


def test_an_error_in_a_list_is_read(asked: Ask, providers: Providers) -> None:
    """As the server sends it where a stream was asked for."""
    providers.handlers["vertex"] = body(_NOT_FOUND)
    assert asked("vertex/gemini-none", stream=True).error.code == "model_not_found"
