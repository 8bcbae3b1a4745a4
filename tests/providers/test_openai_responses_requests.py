"""Requests in the form of OpenAI's Responses: items, tools, parameters, and those that clients sent in it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.base import HttpCall, NativePrompt, Prompt, Target
from maniac_core.providers.openai_responses.dialect import RESPONSES

CONFIG = ProviderConfig(kind="openai-responses", base_url="https://host/v1?v=2")
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM = {
    "type": "custom",
    "custom": {
        "name": "shell",
        "description": "Runs.",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}},
    },
}
OPAQUE = {"type": "reasoning.encrypted", "data": "opaque", "format": "openai-responses-v1"}


def encode(
    messages: list[Any], model: str = "gpt-x", *, stream: bool = False, **parameters: Any
) -> HttpCall:
    target = Target(provider="p", config=CONFIG, model=model, api_key="k")
    prompt = Prompt(messages=messages, parameters=parameters, stream=stream)
    return RESPONSES.encode(target, prompt)


def body_of(messages: list[Any], model: str = "gpt-x", **parameters: Any) -> Any:
    return json.loads(encode(messages, model, **parameters).body)


def user(text: str = "Hi") -> Any:
    return {"role": "user", "content": text}


def test_a_request_goes_to_responses() -> None:
    """With the key where it belongs, and the query of the address behind the path; nothing is kept there."""
    call = encode([user()], stream=True)
    assert call.url == "https://host/v1/responses?v=2"
    assert ("authorization", "Bearer k") in call.headers
    assert ("accept", "text/event-stream") in call.headers
    assert json.loads(call.body) == {
        "model": "gpt-x",
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
    }


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "chatgpt-4o-latest", "gpt-5-chat-latest"]
)
def test_models_that_do_not_think_are_not_asked_for_reasoning(model: str) -> None:
    """OpenAI refuses that."""
    assert "include" not in body_of([user()], model)


def test_messages_become_items() -> None:
    """System messages at the start are instructions; a turn is its reasoning, its text and its calls."""
    image = {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "low"}}
    file = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="},
    }
    body = body_of(
        [
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            {"role": "user", "content": [{"type": "text", "text": "Look."}, image, file]},
            {
                "role": "assistant",
                "content": "Wait.",
                "reasoning": "Hm.",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "x", "signature": "s"},
                    OPAQUE,
                ],
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
                    {
                        "id": "c2",
                        "type": "function",
                        "function": {"name": "shell", "arguments": '{"input":"ls"}'},
                    },
                    {"id": "c3", "type": "custom", "custom": {"name": "shell", "input": "pwd"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {
                "role": "tool",
                "tool_call_id": "c2",
                "content": [{"type": "text", "text": "2"}, image],
                "result_media": True,
            },
            {"role": "tool", "tool_call_id": "c3", "content": "3", "is_error": True},
            {"role": "system", "content": "Later."},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": ""},
        ],
        tools=[FUNCTION, CUSTOM],
    )
    shown = {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "low"}
    assert body["instructions"] == "One.\n\nTwo."
    assert body["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look."},
                shown,
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,QQ==",
                },
            ],
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "opaque"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Wait."}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"},
        {"type": "custom_tool_call", "call_id": "c3", "name": "shell", "input": "pwd"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "2"}, shown],
        },
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "3"},
        {"type": "message", "role": "system", "content": "Later."},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "No."}],
        },
    ]


def test_only_system_messages_are_the_input() -> None:
    """The API wants one."""
    body = body_of([{"role": "system", "content": "One."}])
    assert "instructions" not in body
    assert body["input"] == [{"type": "message", "role": "system", "content": "One."}]


def test_parameters_have_their_places() -> None:
    """Those of chat by their names here; unknown ones go as they are."""
    body = body_of(
        [user()],
        tools=[FUNCTION, CUSTOM],
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [FUNCTION, CUSTOM]},
        },
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        verbosity="low",
        reasoning_effort="high",
        max_tokens=5,
        max_completion_tokens=50,
        temperature=0.5,
        user="u",
        prompt_cache_key="k",
        service_tier="flex",
        truncation=msgspec.Raw(b'"auto"'),
        stream_options={"include_usage": True},
    )
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
        {
            "type": "custom",
            "name": "shell",
            "description": "Runs.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "x"},
        },
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "shell"}],
    }
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "a", "schema": {}},
        "verbosity": "low",
    }
    assert body["reasoning"] == {"effort": "high"}
    assert body["max_output_tokens"] == 50
    rest = {"model", "input", "tools", "tool_choice", "text", "reasoning", "max_output_tokens"}
    assert {key: value for key, value in body.items() if key not in rest} == {
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "user": "u",
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "truncation": "auto",
        "include": ["reasoning.encrypted_content"],
        "store": False,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
    ],
)
def test_tool_choices(choice: Any, sent: Any) -> None:
    """Words stay; a function is named without the level around it."""
    assert body_of([user()], tools=[FUNCTION], tool_choice=choice)["tool_choice"] == sent


def test_what_the_api_lacks_is_dropped_and_named() -> None:
    """Nothing is lost silently."""
    call = encode(
        [user()],
        stop=["x"],
        seed=1,
        logit_bias={"1": 1},
        presence_penalty=0.1,
        reasoning={"effort": "low", "summary": "auto", "max_tokens": 9},
    )
    assert json.loads(call.body)["reasoning"] == {"effort": "low", "summary": "auto"}
    assert call.dropped == (
        "stop",
        "seed",
        "presence_penalty",
        "logit_bias",
        "reasoning.max_tokens",
    )


@pytest.mark.parametrize(
    ("messages", "parameters", "param"),
    [
        ([{"role": "bot", "content": "x"}], {}, "messages[0].role"),
        ([user(), {"role": "user", "content": [{"type": "x"}]}], {}, "messages[1].content[0].type"),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{}]}],
            {},
            "messages[0].tool_calls[0]",
        ),
        ([user()], {"tools": [{"type": "web_search"}]}, "tools[0]"),
        ([user()], {"tool_choice": {"type": "x"}}, "tool_choice"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(messages: Any, parameters: Any, param: str) -> None:
    """Before anything is sent."""
    with pytest.raises(GatewayError) as caught:
        encode(messages, **parameters)
    assert caught.value.param == param


def native(
    body: dict[str, Any],
    *,
    model: str = "gpt-x",
    stream: bool = False,
    messages: list[Any] | None = None,
    added: tuple[int, ...] = (),
    replaced: tuple[str, str] = ("", ""),
    **parameters: Any,
) -> str:
    """Return what is sent for a client's own body; `messages` and parameters are its container's."""
    raw = json.dumps(body, ensure_ascii=False).replace(*replaced, 1).encode()
    prompt = Prompt(
        messages=messages or [],
        parameters=parameters,
        stream=stream,
        native=NativePrompt(
            body=msgspec.Raw(raw), added_messages=added, added_parameters=tuple(parameters)
        ),
    )
    target = Target(provider="p", config=CONFIG, model=model, api_key="k")
    call = RESPONSES.encode(target, prompt)
    assert call.is_native
    return call.body.decode()


def test_only_what_the_gateway_must_change_is_changed() -> None:
    """The model, its own keys, that nothing is kept, and that reasoning carries its content."""
    sent = json.loads(
        native(
            {
                "tags": ["a"],
                "trace": {"id": "t"},
                "models": ["p/n"],
                "future": [1, 2.50],
                "model": "p/m",
                "metadata": {"a": "b"},
                "tools": [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}],
                "input": "Hi",
                "store": True,
                "include": ["web_search_call.action.sources"],
            }
        )
    )
    assert sent == {
        "future": [1, 2.5],
        "model": "gpt-x",
        "metadata": {"a": "b"},
        "tools": [{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}],
        "input": "Hi",
        "store": False,
        "include": ["web_search_call.action.sources", "reasoning.encrypted_content"],
    }
    assert list(sent)[:4] == ["future", "model", "metadata", "tools"]
    assert "include" not in json.loads(native({"model": "p/m", "input": "Hi"}, model="gpt-4o"))


def test_reasoning_that_the_provider_cannot_read_is_left_out() -> None:
    """Sealed for another one, or only a reference to what it does not keep."""
    own = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "opaque"}
    open_ = {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "x"}],
    }
    items = [
        {"type": "reasoning", "summary": [], "encrypted_content": "mgs1.AAA"},
        {"type": "reasoning", "summary": [], "encrypted_content": "call:mgs1.AAA"},
        {"type": "reasoning", "id": "rs_2", "summary": []},
        own,
        open_,
        {"role": "user", "content": "Hi"},
    ]
    assert json.loads(native({"model": "p/m", "input": items}))["input"] == items[3:]


def test_what_is_not_read_may_hold_anything() -> None:
    """Numbers that nobody can hold, beside reasoning that is left out."""
    items = [{"type": "reasoning", "summary": []}, {"role": "user", "content": "@"}]
    sent = native({"model": "p/m", "input": items}, replaced=('"@"', '[{"x":1e999}]'))
    assert '"input":[{"role": "user", "content": [{"x":1e999}]}]' in sent


def test_a_container_adds_what_the_client_left_open() -> None:
    """Its prompt as instructions, examples behind what the client says first, parameters by their names here."""
    examples = [user("2+2"), {"role": "assistant", "content": "4"}]
    rules = {"type": "message", "role": "developer", "content": "Mine."}
    question = {"type": "message", "role": "user", "content": "3+3"}
    sent = json.loads(
        native(
            {
                "model": "p/m",
                "input": [rules, question],
                "text": {"verbosity": "low"},
                "tools": None,
            },
            messages=[user("Mine."), *examples, user("3+3")],
            added=(1, 2),
            max_tokens=9,
            response_format={"type": "json_object"},
            tools=[FUNCTION],
        )
    )
    assert sent["input"] == [
        rules,
        {"type": "message", "role": "user", "content": "2+2"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
        question,
    ]
    assert sent["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
    assert sent["max_output_tokens"] == 9
    assert sent["tools"][0]["name"] == "f"
    assert "instructions" not in sent

    sent = json.loads(
        native(
            {"model": "p/m", "input": "3+3", "instructions": None, "max_output_tokens": 5},
            messages=[{"role": "system", "content": "Be kind."}, *examples, user("3+3")],
            added=(0, 1, 2),
            max_tokens=9,
        )
    )
    assert sent["instructions"] == "Be kind."
    assert sent["max_output_tokens"] == 5
    assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]
    assert sent["input"][2] == {"type": "message", "role": "user", "content": "3+3"}
