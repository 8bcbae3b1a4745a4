"""Requests on OpenAI's wire: where they go, with which headers, and what of the prompt they carry."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.providers.base import HttpCall, Prompt, Target
from maniac_core.providers.openai.dialect import OpenAIDialect

OPENAI = "https://api.openai.com/v1"
OPENROUTER = "https://openrouter.ai/api/v1"
DEEPSEEK = "https://api.deepseek.com/v1"
MISTRAL = "https://api.mistral.ai/v1"
AZURE = "https://r.openai.azure.com/openai/v1"
VLLM = "http://127.0.0.1:8000/v1"

USER = {"role": "user", "content": "hi"}


def encode(
    base_url: str = VLLM,
    *,
    model: str = "m",
    provider: str = "p",
    key: str | None = "sk-test",
    messages: list[dict[str, Any]] | None = None,
    stream: bool = False,
    headers: dict[str, str] | None = None,
    **parameters: Any,
) -> HttpCall:
    target = Target(
        provider=provider,
        config=ProviderConfig(kind="openai", base_url=base_url),
        model=model,
        api_key=key,
    )
    prompt = Prompt(
        messages=messages or [USER], parameters=parameters, stream=stream, headers=headers or {}
    )
    return OpenAIDialect().encode(target, prompt)


def body(*args: Any, **kwargs: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(encode(*args, **kwargs).body)
    return decoded


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (VLLM, "http://127.0.0.1:8000/v1/chat/completions"),
        (VLLM + "/", "http://127.0.0.1:8000/v1/chat/completions"),
        (
            "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_url_is_the_base_url_with_the_endpoint(base_url: str, url: str) -> None:
    """A trailing slash does not matter, and a query stays behind the path."""
    assert encode(base_url).url == url


def test_key_goes_where_the_server_looks_for_it() -> None:
    """A bearer token, Azure's own header, or nothing without a key."""
    assert ("authorization", "Bearer sk-test") in encode().headers
    assert ("api-key", "sk-test") in encode(AZURE).headers
    assert "authorization" not in dict(encode(AZURE).headers)
    assert {"authorization", "api-key"}.isdisjoint(dict(encode(key=None).headers))


def test_only_traceparent_is_forwarded_of_the_callers_headers() -> None:
    """The trace continues; other headers, and one that is not well-formed, stay here."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = dict(encode(headers={"traceparent": traceparent, "openai-organization": "o"}).headers)
    assert sent["traceparent"] == traceparent
    assert "openai-organization" not in sent
    assert "traceparent" not in dict(encode(headers={"traceparent": "x\r\nevil: 1"}).headers)


def test_headers_are_the_same_object_for_the_same_upstream() -> None:
    """The transport caches their encoding by identity."""
    assert encode().headers is encode(model="other").headers


def test_messages_and_parameters_are_forwarded_as_they_came() -> None:
    """Unknown keys survive at every level, raw values byte for byte."""
    message = {**USER, "name": "n", "annotations": [], "cache_control": {"type": "ephemeral"}}
    call = encode(
        messages=[message],
        temperature=0.5,
        tools=[{"type": "function", "function": {"name": "f", "strict": True}}],
        vendor=msgspec.Raw(b'{"big": 12345678901234567890, "f": 1.0}'),
    )
    assert b'{"big": 12345678901234567890, "f": 1.0}' in call.body
    sent = msgspec.json.decode(call.body)
    assert sent["messages"] == [message]
    assert sent["model"] == "m"
    assert sent["temperature"] == 0.5
    assert sent["tools"][0]["function"]["strict"] is True
    assert call.dropped == ()


def test_streams_ask_for_usage() -> None:
    """Usage is always requested, beside the caller's own options; a whole answer needs no option."""
    assert "stream" not in body(stream_options={"include_usage": True})
    assert "stream_options" not in body(stream_options={"include_usage": True})
    sent = body(stream=True, stream_options={"include_usage": False, "include_obfuscation": False})
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    raw = body(stream=True, stream_options=msgspec.Raw(b'{"x":1}'))
    assert raw["stream_options"] == {"include_usage": True, "x": 1}


def test_openrouter_is_asked_for_cost() -> None:
    """OpenRouter gets its own option, streamed or not."""
    assert body(OPENROUTER)["usage"] == {"include": True}
    assert body(OPENROUTER, stream=True)["usage"] == {"include": True}
    assert "usage" not in body(VLLM)


def test_mistral_gets_no_key_that_it_refuses() -> None:
    """No stream_options, and the limit under its old name."""
    sent = body(MISTRAL, stream=True, max_completion_tokens=5)
    assert "stream_options" not in sent
    assert sent["max_tokens"] == 5
    assert "max_completion_tokens" not in sent


def test_reasoning_becomes_an_effort() -> None:
    """Effort travels as reasoning_effort; what else was asked for is reported as dropped."""
    call = encode(OPENAI, reasoning={"effort": "low", "summary": "auto", "max_tokens": None})
    sent = msgspec.json.decode(call.body)
    assert sent["reasoning_effort"] == "low"
    assert "reasoning" not in sent
    assert call.dropped == ("reasoning.summary",)
    strange = encode(OPENAI, reasoning={"effort": "low", "a\r\nb": 1})
    assert strange.dropped == ("reasoning.a%0D%0Ab",)
    own = body(OPENAI, reasoning={"effort": "low"}, reasoning_effort="high")
    assert own["reasoning_effort"] == "high"


def test_openrouter_gets_the_reasoning_object() -> None:
    """OpenRouter takes the object whole."""
    call = encode(OPENROUTER, reasoning={"effort": "low", "summary": "auto"})
    sent = msgspec.json.decode(call.body)
    assert sent["reasoning"] == {"effort": "low", "summary": "auto"}
    assert "reasoning_effort" not in sent
    assert call.dropped == ()


@pytest.mark.parametrize(
    ("base_url", "model", "given", "sent"),
    [
        (OPENAI, "o3-mini", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (OPENAI, "gpt-5", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (OPENAI, "gpt-9-unheard-of", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (OPENAI, "gpt-4o-mini", {"max_tokens": 5}, {"max_tokens": 5}),
        (OPENAI, "ft:gpt-4o-mini:x", {"max_tokens": 5}, {"max_tokens": 5}),
        (OPENAI, "gpt-4o-mini", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        (AZURE, "o1", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        (VLLM, "o1", {"max_tokens": 5}, {"max_tokens": 5}),
        (VLLM, "m", {"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6}),
        (VLLM, "m", {"max_tokens": 5, "max_completion_tokens": None}, {"max_tokens": 5}),
        (VLLM, "m", {"max_tokens": None}, {}),
    ],
)
def test_one_token_limit_under_the_right_name(
    base_url: str, model: str, given: dict[str, Any], sent: dict[str, Any]
) -> None:
    """The newer name wins, and OpenAI's newer models get no other; elsewhere the caller's key stays."""
    got = body(base_url, model=model, **given)
    assert {key: value for key, value in got.items() if key.startswith("max_")} == sent


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("o3", "max_completion_tokens"),
        ("gpt-5.1-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        ("gpt-4o-mini", "max_tokens"),
        ("olmo", "max_tokens"),
        ("m", "max_tokens"),
    ],
)
def test_openai_behind_a_proxy_gets_the_limit_its_models_take(model: str, sent: str) -> None:
    """A provider named openai at another address: models known to refuse `max_tokens` do not get it."""
    got = body(VLLM, provider="openai", model=model, max_tokens=5)
    assert {key for key in got if key.startswith("max_")} == {sent}


def test_a_known_name_brings_its_habits_to_any_address() -> None:
    """OpenRouter, DeepSeek and Mistral behind a proxy are spoken to as they are at home."""
    routed = body(VLLM, provider="openrouter", reasoning={"effort": "low"}, messages=[ASSISTANT])
    assert (routed["usage"], routed["reasoning"]) == ({"include": True}, {"effort": "low"})
    assert routed["messages"] == [ASSISTANT]
    (sought,) = body(VLLM, provider="deepseek", messages=[ASSISTANT])["messages"]
    assert sought["reasoning_content"] == "thought"
    assert "stream_options" not in body(VLLM, provider="mistral", stream=True)


ASSISTANT = {
    "role": "assistant",
    "content": "",
    "reasoning": "thought",
    "reasoning_details": [{"type": "reasoning.text", "text": "thought", "signature": "s"}],
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def test_reasoning_of_messages_goes_only_to_those_who_take_it() -> None:
    """OpenRouter gets both forms, other servers neither, and the prompt itself stays as it was."""
    before = dict(ASSISTANT)
    assert body(OPENROUTER, messages=[ASSISTANT])["messages"] == [ASSISTANT]
    (sent,) = body(VLLM, messages=[ASSISTANT])["messages"]
    assert sent.keys() == {"role", "content", "tool_calls"}
    assert before == ASSISTANT


def test_deepseek_gets_the_thinking_of_its_tool_calls_back() -> None:
    """Its tool history needs reasoning_content on every call, if only empty; other messages need none."""
    bare = {key: value for key, value in ASSISTANT.items() if not key.startswith("reasoning")}
    plain = {"role": "assistant", "content": "x", "reasoning": "thought"}
    first, second, third = body(DEEPSEEK, messages=[ASSISTANT, bare, plain])["messages"]
    assert first["reasoning_content"] == "thought"
    assert "reasoning" not in first
    assert "reasoning_details" not in first
    assert second["reasoning_content"] == ""
    assert third == {"role": "assistant", "content": "x"}
