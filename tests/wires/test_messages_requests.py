"""Requests for messages: what reaches Anthropic as it was sent, and what becomes of it at others."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from gateway import Gateway
from providers import Providers, body, status

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
MESSAGE = {
    "id": "msg_upstream",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hi."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
GENERATED = {
    "candidates": [{"content": {"parts": [{"text": "Hi."}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}


@pytest.fixture(autouse=True)
def _answers(providers: Providers) -> None:
    providers.handlers["anthropic"] = body(json.dumps(MESSAGE).encode())
    providers.handlers["gemini"] = body(json.dumps(GENERATED).encode())


def ask(gateway: Gateway, model: str, **request: Any) -> httpx.Response:
    """Return the answer to a request."""
    with gateway.client() as http:
        asked = {"model": model, "max_tokens": 64, "messages": HI, **request}
        return http.post("/v1/messages", json=asked)


def sent(gateway: Gateway, providers: Providers, model: str, **request: Any) -> Any:
    """Return what the provider is sent for a request."""
    answer = ask(gateway, model, **request)
    assert answer.status_code == 200, answer.text
    return providers.requests(model.partition("/")[0])[-1].json


@pytest.mark.parametrize(
    "request_",
    [
        {"tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}], "mcp_servers": []},
        {"tools": [TOOL], "tool_choice": {"type": "of_tomorrow"}},
        {"output_config": {"effort": "of_tomorrow"}},
        {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}},
        {"max_tokens": 0},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}, "metadata": {"user_id": "u"}},
        {"messages": [{"role": "user", "content": [{"type": "of_tomorrow", "text": "x"}]}]},
    ],
    ids=lambda request: next(iter(request)),
)
def test_what_only_anthropic_knows_is_its_own_affair(
    gateway: Gateway, providers: Providers, request_: dict[str, Any]
) -> None:
    """Values and kinds of later days reach it as they were sent."""
    got = sent(gateway, providers, "anthropic/claude-x", **request_)
    assert got == {"model": "claude-x", "max_tokens": 64, "messages": HI, **request_}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"tools": [TOOL], "tool_choice": {"type": "of_tomorrow"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"input_schema": {"type": "object"}}]}, "tools[0].name"),
    ],
)
def test_what_must_not_be_lost_is_refused_elsewhere(
    gateway: Gateway, request_: dict[str, Any], field: str
) -> None:
    """The error names the field."""
    answer = ask(gateway, "openai/m1", **request_)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert field in answer.json()["error"]["message"]


def test_what_may_be_lost_is_named(gateway: Gateway) -> None:
    """Tools, blocks, efforts and fields that only Anthropic has."""
    answer = ask(
        gateway,
        "openai/m1",
        top_k=3,
        output_config={"effort": "of_tomorrow"},
        tools=[TOOL, {"type": "mcp_toolset", "mcp_server_name": "docs"}],
        messages=[
            *HI,
            {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "x"}]},
            *HI,
        ],
    )
    assert answer.status_code == 200
    named = answer.headers["x-maniac-dropped-params"].split(",")
    assert named == ["top_k", "messages[1].content[0]", "tools[1]", "output_config.effort"]


def test_turns_of_which_nothing_is_left_are_left_out(
    gateway: Gateway, providers: Providers
) -> None:
    """An answer without content is more than some providers take."""
    signed = {"type": "thinking", "thinking": "Hm.", "signature": "of Anthropic"}
    got = sent(
        gateway,
        providers,
        "openai/m1",
        messages=[
            *HI,
            {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "x"}]},
            {"role": "assistant", "content": [signed, {"type": "text", "text": "Yes."}]},
            {"role": "user", "content": []},
        ],
    )
    assert got["messages"] == [
        *HI,
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": ""},
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/m1", {"reasoning_effort": "max"}),
        (
            "gemini/gemini-3-pro",
            {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}},
        ),
    ],
)
def test_the_largest_effort(
    gateway: Gateway, providers: Providers, model: str, expected: dict[str, Any]
) -> None:
    """Coding agents ask for it; others have it by another name, or have less."""
    got = sent(
        gateway,
        providers,
        model,
        thinking={"type": "adaptive"},
        output_config={"effort": "max"},
    )
    assert {**got, **got.get("generationConfig", {})}.items() >= expected.items()


def test_documents_keep_what_is_said_of_them(gateway: Gateway, providers: Providers) -> None:
    """Title and context are part of what the model reads."""
    source = {"type": "text", "media_type": "text/plain", "data": "It is blue."}
    document = {"type": "document", "title": "The sky", "context": "A poem.", "source": source}
    got = sent(gateway, providers, "openai/m1", messages=[{"role": "user", "content": [document]}])
    texts = [part["text"] for part in got["messages"][0]["content"]]
    assert texts == ["The sky", "A poem.", "It is blue."]


@pytest.mark.parametrize("model", ["openai/m1", "gemini/m1", "anthropic/m1"])
def test_a_failed_result_with_a_picture(gateway: Gateway, providers: Providers, model: str) -> None:
    """The model sees both, wherever its provider has a place for them."""
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "is_error": True,
        "content": [{"type": "text", "text": "It broke."}, PNG],
    }
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    messages = [
        *HI,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    got = sent(gateway, providers, model, messages=messages, tools=[TOOL])
    if model == "openai/m1":
        told, shown = got["messages"][-2:]
        assert (told["role"], told["tool_call_id"]) == ("tool", "toolu_1")
        assert told["content"][0]["text"] == "It broke."
        assert shown["content"][0]["image_url"]["url"] == "data:image/png;base64,aGk="
    elif model == "gemini/m1":
        told, shown = got["contents"][-1]["parts"]
        assert told["functionResponse"]["response"] == {"error": "It broke."}
        assert shown["inlineData"] == {"mimeType": "image/png", "data": "aGk="}
    else:
        assert got["messages"] == messages


def test_a_coding_agents_request_passes_whole(gateway: Gateway, providers: Providers) -> None:
    """100 kB, five betas, marks for the cache, and keys that the gateway does not know."""
    betas = "a-2025-01-01,b-2025-02-02,c-2025-03-03,d-2025-04-04,e-2025-05-05"
    mark = {"cache_control": {"type": "ephemeral"}}
    asked = {
        "model": "anthropic/claude-x",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "x" * 100_000, **mark}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **mark}]}],
        "tools": [{**TOOL, "defer_loading": True, "eager_input_streaming": True}],
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "u"},
    }
    with gateway.client() as http:
        answer = http.post("/v1/messages?beta=true", json=asked, headers={"anthropic-beta": betas})
        asked["model"] = "openai/m1"
        other = http.post("/v1/messages?beta=true", json=asked, headers={"anthropic-beta": betas})

    assert (answer.status_code, other.status_code) == (200, 200)
    (exchange,) = providers.requests("anthropic")
    assert exchange.json == {**asked, "model": "claude-x"}
    assert exchange.headers["anthropic-beta"] == betas
    (exchange,) = providers.requests("openai")
    assert "anthropic-beta" not in exchange.headers
    assert exchange.json["reasoning_effort"] == "low"
    assert "context_management" in other.headers["x-maniac-dropped-params"]


def test_another_api_takes_over_before_the_first_content(
    gateway: Gateway, providers: Providers
) -> None:
    """The fallback of a request to Anthropic speaks chat, and its answer has Anthropic's form."""
    providers.handlers["anthropic"] = status(529)
    answer = ask(gateway, "anthropic/claude-x", models=["openai/m1"], system="Be brief.")

    assert answer.json()["model"] == "openai/m1"
    assert answer.json()["content"] == [{"type": "text", "text": "Hello!"}]
    (exchange,) = providers.requests("openai")
    assert exchange.json["messages"][0] == {"role": "system", "content": "Be brief."}
