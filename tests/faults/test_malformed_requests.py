"""Requests that something happened to: refused with the field, or sent on; never an error of the gateway's own."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import malformed
import msgspec
import pytest
from gateway import Gateway
from providers import Providers, body

MODELS = {
    "openai": "openai/gpt-4o",
    "openrouter": "openrouter/m",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "newer": "newer/gpt-x",
}
SEEDS = range(150)
# Whatever it is asked, and without reading it: Python's own decoder takes no number of 5,000 digits.
ANSWER = body(b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}')


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "newer"])
def test_no_request_is_an_error_of_the_gateway(
    gateway: Gateway, providers: Providers, kind: str
) -> None:
    """A 400 names the field; what is not refused reaches the provider as JSON, and all of it can be read back."""
    sent = 0
    providers.handlers[kind] = ANSWER
    with gateway.client() as http:
        for seed in SEEDS:
            data = malformed.request(f"{kind}{seed}").replace(b"openai/m", MODELS[kind].encode())
            response = http.post("/v1/chat/completions", content=data)
            if response.status_code in (400, 413):
                error = response.json()["error"]
                assert error["type"] == "invalid_request_error"
                assert error["message"]
            else:
                # The provider answers all dialects in one, so that the others are 502.
                assert response.status_code == (200 if kind == "openai" else 502), response.text
                msgspec.json.decode(providers.requests(kind)[-1].body, type=msgspec.Raw)
                sent += 1
        for page in itertools.count(0, 100):
            listed = http.get(f"/v1/chat/completions?limit=100&offset={page}")
            assert listed.status_code == 200
            # The requests of other tests are in it, whose numbers Python's own decoder does not take.
            if not msgspec.json.decode(listed.content, type=_Page).data:
                break
    assert sent > len(SEEDS) / 10


HUGE = [b"1e999", b"9" * 5000]


@pytest.mark.parametrize("number", HUGE, ids=["1e999", "5,000 digits"])
@pytest.mark.parametrize(
    "case",
    [
        (
            "tools",
            '[{"function":{"name":"f","parameters":{"properties":{"x":{"maximum":@}}}}}]',
            "tools[0].function.parameters.properties[...].maximum",
        ),
        (
            "response_format",
            '{"type":"json_schema","json_schema":{"name":"n","schema":{"a":@}}}',
            "response_format.json_schema.schema",
        ),
        ("reasoning", '{"effort":"low","further":@}', "reasoning"),
    ],
)
@pytest.mark.parametrize("kind", MODELS)
def test_a_number_that_nobody_can_hold_is_refused_where_it_is_read(
    gateway: Gateway, kind: str, number: bytes, case: tuple[str, str, str]
) -> None:
    """In schemas and reasoning, with the path."""
    key, value, param = case
    response = post(gateway, kind, key, value, number)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_value")
    assert error["param"].startswith(param.partition("[...]")[0].removesuffix(".properties"))


@pytest.mark.parametrize("number", HUGE, ids=["1e999", "5,000 digits"])
@pytest.mark.parametrize("key", ["further", "metadata", "generationConfig", "thinking"])
def test_a_number_in_what_is_passed_on_stays_as_it_is(
    gateway: Gateway, providers: Providers, number: bytes, key: str
) -> None:
    """OpenAI's wire gets unknown keys verbatim, and metadata is not read."""
    providers.handlers["openai"] = ANSWER
    response = post(gateway, "openai", key, '{"a":@}', number)
    assert response.status_code == 200
    is_sent = b'"a":' + number in providers.requests("openai")[-1].body
    assert is_sent is (key != "metadata")


def post(gateway: Gateway, kind: str, key: str, value: str, number: bytes) -> httpx.Response:
    data = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"%b":%b}' % (
        MODELS[kind].encode(),
        key.encode(),
        value.encode().replace(b"@", number),
    )
    with gateway.client() as http:
        return http.post("/v1/chat/completions", content=data)


ANSWERS = {
    "anthropic": body(b'{"content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn"}'),
    "gemini": body(b'{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}'),
}
CHOICE = {
    "type": "allowed_tools",
    "allowed_tools": {
        "mode": "required",
        "tools": [{"type": "function", "function": {"name": "f"}}],
    },
}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


@pytest.mark.parametrize("mode", ["auto", "required"])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_allowed_tools_reach_every_dialect(
    gateway: Gateway, providers: Providers, kind: str, mode: str
) -> None:
    """Verbatim on OpenAI's wire, as a restriction on the others."""
    choice = json.loads(json.dumps(CHOICE).replace("required", mode))
    ask(gateway, kind, tools=TOOLS, tool_choice=choice)
    sent = providers.requests(kind)[-1].json
    if kind == "openai":
        assert (sent["tool_choice"], len(sent["tools"])) == (choice, 2)
    elif kind == "anthropic":
        assert [tool["name"] for tool in sent["tools"]] == ["f"]
        assert sent["tool_choice"] == {"type": "auto" if mode == "auto" else "any"}
    else:
        calling = sent["toolConfig"]["functionCallingConfig"]
        declared = [tool["name"] for tool in sent["tools"][0]["functionDeclarations"]]
        if mode == "auto":
            assert (calling, declared) == ({"mode": "AUTO"}, ["f"])
        else:
            assert calling == {"mode": "ANY", "allowedFunctionNames": ["f"]}
            assert declared == ["f", "g"]


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        ({"type": "allowed_tools", "allowed_tools": {}}, "tool_choice.allowed_tools.mode"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": [TOOLS[0]]}},
            "tool_choice.allowed_tools.mode",
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}},
            "tool_choice.allowed_tools.tools[0].function",
        ),
        ({"type": "function"}, "tool_choice.function"),
        ({}, "tool_choice.function"),
        ({"type": "any"}, "tool_choice.type"),
    ],
)
def test_a_tool_choice_that_says_nothing_is_refused_by_name(
    gateway: Gateway, choice: Any, param: str
) -> None:
    """Before any provider is asked, on every dialect alike."""
    error = ask(gateway, "openai", tools=TOOLS, tool_choice=choice).json()["error"]
    assert error["param"] == param


def test_an_allowed_tool_that_is_none_of_the_tools_is_refused(gateway: Gateway) -> None:
    """A restriction to it would leave none."""
    for kind in ("anthropic", "gemini"):
        error = ask(gateway, kind, tools=TOOLS[1:], tool_choice=CHOICE).json()["error"]
        assert error["param"] == "tool_choice.allowed_tools.tools[0].function.name"


@pytest.mark.parametrize("content", ["", "  ", None, [], [{"type": "text", "text": ""}]])
@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
def test_messages_with_nothing_in_them_are_left_out(
    gateway: Gateway, providers: Providers, kind: str, role: str, content: Any
) -> None:
    """System messages and turns of the assistant; a user's question is still there."""
    messages = [{"role": role, "content": content}, {"role": "user", "content": "Hi"}]
    if role == "assistant":
        messages.insert(0, {"role": "user", "content": "Hello"})
    ask(gateway, kind, messages=messages)
    sent = providers.requests(kind)[-1].json
    turns = sent["messages"] if kind == "anthropic" else sent["contents"]
    if content != "  " or kind == "anthropic":
        assert "system" not in sent
        assert [turn["role"] for turn in turns] == ["user"]


@pytest.mark.parametrize("choice", ["required", TOOLS[0]])
@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
def test_what_has_no_effect_is_named_as_dropped(
    gateway: Gateway, providers: Providers, kind: str, choice: Any
) -> None:
    """A tool that must be called where there is none, and an empty stop sequence."""
    providers.handlers[kind] = ANSWERS[kind]
    response = ask(gateway, kind, tool_choice=choice, stop=["", "x"])
    assert response.status_code == 200
    dropped = set(response.headers["x-maniac-dropped-params"].split(","))
    assert {"tool_choice", "stop"} <= dropped
    sent = providers.requests(kind)[-1].json
    stop = sent["stop_sequences"] if kind == "anthropic" else sent["generationConfig"]
    assert stop in (["x"], {"stopSequences": ["x"]})


def ask(gateway: Gateway, kind: str, **parameters: Any) -> httpx.Response:
    asked = {"model": MODELS[kind], "messages": [{"role": "user", "content": "Hi"}], **parameters}
    with gateway.client() as http:
        return http.post("/v1/chat/completions", json=asked)
