"""Which of OpenAI's two APIs a request goes by."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import Prompt, UpstreamFailure
from maniac_core.providers.openai_responses.choice import ResponsesChoice
from maniac_core.providers.registry import wires_of

OPENAI = "https://api.openai.com/v1"
TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}
REFUSAL = (
    b'{"error": {"message": "Function tools with reasoning_effort are not supported for m in'
    b' /v1/chat/completions. Please use /v1/responses instead.", "param": "reasoning_effort"}}'
)


def choice(base_url: str = OPENAI, name: str = "p", **fields: Any) -> ResponsesChoice:
    return ResponsesChoice(name, ProviderConfig(kind="openai", base_url=base_url, **fields))


def goes_by_responses(
    chosen: ResponsesChoice, model: str, wire: Any = "chat", **parameters: Any
) -> bool:
    prompt = Prompt(messages=[], parameters=parameters, stream=False, wire=wire)
    return chosen.other(model, prompt) is not None


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("gpt-4o", TOOLS, False),
        ("gpt-5", TOOLS, False),
        ("gpt-5.2", {**TOOLS, "reasoning_effort": "high"}, False),
        ("gpt-5.4", {}, False),
        ("gpt-5.4", TOOLS, False),
        ("gpt-5.4-mini", {**TOOLS, "reasoning_effort": "low"}, True),
        ("gpt-5.4", {**TOOLS, "reasoning": {"effort": "low"}}, True),
        ("gpt-5.5", TOOLS, True),
        ("gpt-5.6-terra", TOOLS, True),
        ("gpt-5.6", {}, False),
        ("gpt-5.6", {**TOOLS, "reasoning_effort": "none"}, False),
        ("gpt-6", TOOLS, True),
        ("gpt-5.6-chat-latest", TOOLS, False),
        ("o3", TOOLS, False),
        ("o1-pro", {}, True),
        ("gpt-5.2-pro-2025-12-11", {}, True),
        ("gpt-5.1-codex-max", {}, True),
        ("codex-mini-latest", {}, True),
        ("o4-mini-deep-research", {}, True),
        ("computer-use-preview", {}, True),
    ],
)
def test_openais_models_by_the_table(model: str, parameters: Any, expected: bool) -> None:
    """At its own address; a proxy may be anything, whatever its name."""
    assert goes_by_responses(choice(), model, **parameters) is expected
    assert not goes_by_responses(choice("https://proxy.example/v1", "openai"), model, **parameters)
    assert not goes_by_responses(choice(wire="chat"), model, **parameters)


def test_configuration_has_the_last_word() -> None:
    """`responses` for every model, `chat` for none, not even after a refusal."""
    always = choice("https://host/v1", wire="responses")
    assert goes_by_responses(always, "any")
    assert always.wires == {"responses"}
    never = choice("https://host/v1", wire="chat")
    assert not never.note_refusal("m", 400, REFUSAL)
    assert never.wires == {"chat"}
    with pytest.raises(ValueError, match="`wire` belongs to kind `openai` only"):
        ProviderConfig(kind="anthropic", base_url="https://host", wire="responses")


def test_requests_of_responses_go_by_it_where_it_is_spoken() -> None:
    """At OpenAI any model's."""
    assert choice().wires == {"chat", "responses"}
    assert goes_by_responses(choice(), "gpt-4o", wire="responses")
    other = ProviderConfig(kind="openai-responses", base_url="https://host/v1")
    assert wires_of("p", other) == {"responses"}


def test_a_refusal_is_remembered_until_responses_is_not_there() -> None:
    """For its model only."""
    chosen = choice("https://host/v1")
    assert not goes_by_responses(chosen, "m")
    assert chosen.note_refusal("m", 400, REFUSAL)
    assert goes_by_responses(chosen, "m")
    assert not goes_by_responses(chosen, "n")
    rejected = UpstreamFailure(Reason.ERROR_REASON_UPSTREAM_REJECTED, "", http_status=400)
    chosen.note_failure("m", rejected)
    assert goes_by_responses(chosen, "m")
    gone = UpstreamFailure(Reason.ERROR_REASON_UPSTREAM_ERROR, "", http_status=404)
    chosen.note_failure("m", gone)
    assert not goes_by_responses(chosen, "m")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error": {"message": "Invalid name: use /v1/responses instead."}}'),
        (400, b'{"error": {"message": "No: \\"message\\": \\"This is not a chat model\\""}}'),
        (500, REFUSAL),
        (400, b""),
    ],
)
def test_other_errors_are_no_refusal(status: int, body: bytes) -> None:
    """A caller's own text in an error least of all."""
    assert not choice("https://host/v1").note_refusal("m", status, body)


@pytest.mark.parametrize(
    "message",
    [
        "This model is only supported in v1/responses and not in v1/chat/completions.",
        "This is not a chat model and thus not supported in the v1/chat/completions endpoint.",
    ],
)
def test_models_that_chat_lacks_are_told_by_a_404(message: str) -> None:
    """In both of OpenAI's wordings."""
    body = b'{\n  "error": {\n    "message": "%b"}}' % message.encode()
    assert choice("https://host/v1").note_refusal("m", 404, body)
