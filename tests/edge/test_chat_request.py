"""What of a chat request reaches the core, and what is refused before."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}


async def params_of(client: httpx.AsyncClient, core: Any, **fields: Any) -> Any:
    """Send a request and return what the core got."""
    body = {"model": "m", "messages": [USER], **fields}
    answer = await client.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    return core.asked("create")[-1].params


SCALARS: list[tuple[str, Any, Any]] = [
    ("model", "openai/gpt-4o", "openai/gpt-4o"),
    ("model", "maniac:support:v2", "maniac:support:v2"),
    ("frequency_penalty", 0.5, 0.5),
    ("presence_penalty", -1, -1.0),
    ("temperature", 0, 0.0),
    ("top_p", 0.9, 0.9),
    ("logprobs", False, False),
    ("top_logprobs", 3.0, 3),
    ("max_tokens", 64.0, 64),
    ("max_tokens", 64, 64),
    ("max_completion_tokens", 1e3, 1000),
    ("seed", -5, -5),
    ("n", 1, 1),
    ("n", 2.0, 2),
    ("parallel_tool_calls", False, False),
    ("store", False, False),
]


@pytest.mark.parametrize(("key", "sent", "got"), SCALARS)
async def test_scalars_arrive_with_their_type(
    client: httpx.AsyncClient, core: Any, key: str, sent: Any, got: Any
) -> None:
    """A scalar reaches the core as sent; an integral float where a whole number is due is that number."""
    params = await params_of(client, core, **{key: sent})

    assert params.HasField(key)
    assert getattr(params, key) == got


NULLABLE = [
    "models", "frequency_penalty", "presence_penalty", "temperature", "top_p", "logit_bias", "logprobs",
    "top_logprobs", "max_tokens", "max_completion_tokens", "metadata", "reasoning", "response_format",
    "seed", "stop", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "tags",
    "store", "trace", "n",
]  # fmt: skip


async def test_null_is_the_same_as_absent(client: httpx.AsyncClient, core: Any) -> None:
    """A request with every optional key null is the request without them."""
    bare = await params_of(client, core)
    nulls = await params_of(client, core, **dict.fromkeys(NULLABLE))

    assert nulls == bare


STRUCTURED: list[tuple[str, Any, str]] = [
    ("models", ["a", "b"], 'models: "a" models: "b"'),
    ("tags", ["x"], 'tags: "x"'),
    ("stop", "END", 'stop { sequences: "END" is_scalar: true }'),
    ("stop", ["a", "b"], 'stop { sequences: "a" sequences: "b" }'),
    ("tool_choice", "required", 'tool_choice { mode: "required" }'),
    (
        "tool_choice",
        {"type": "function", "function": {"name": "f"}},
        'tool_choice { function_name: "f" }',
    ),
    ("response_format", {"type": "json_object"}, 'response_format { type: "json_object" }'),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": {"a": 1}}},
        'response_format { type: "json_schema" json_schema { name: "s" schema_json: "{\\"a\\":1}" strict: true } }',
    ),
    ("reasoning", {"effort": "high", "summary": None}, 'reasoning { effort: "high" }'),
    (
        "reasoning",
        {"max_tokens": 9, "effort": None},
        'reasoning { extra_json: "{\\"max_tokens\\":9}" }',
    ),
    (
        "trace",
        {"id": "t", "span_id": "s", "metadata": {"k": 1}, "name": None},
        'trace { id: "t" span_id: "s" metadata_json: "{\\"k\\":1}" }',
    ),
    (
        "tools",
        [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object"}, "strict": True},
                "cache_control": {"type": "ephemeral"},
            }
        ],
        """tools { type: "function" name: "f" parameters_json: "{\\"type\\":\\"object\\"}" strict: true
        extra_json: "{\\"cache_control\\":{\\"type\\":\\"ephemeral\\"}}" }""",
    ),
    (
        "stream_options",
        {"include_usage": True, "more": [1]},
        r'''include_usage: true stream_options_json: "{\"include_usage\":true,\"more\":[1]}"''',
    ),
]


@pytest.mark.parametrize(("key", "sent", "expected"), STRUCTURED)
async def test_structures_arrive_typed(
    client: httpx.AsyncClient, core: Any, key: str, sent: Any, expected: str
) -> None:
    """An object of the contract arrives as its message, JSON that nobody reads as its bytes."""
    from google.protobuf import text_format

    params = await params_of(client, core, **{key: sent})
    del params.messages[:]
    params.ClearField("model")

    assert params == text_format.Parse(expected, type(params)())


async def test_logit_bias_arrives_as_a_map(client: httpx.AsyncClient, core: Any) -> None:
    """Biases keep their token ids, whole numbers become numbers."""
    params = await params_of(client, core, logit_bias={"50256": -100, "7": 0.5})

    assert dict(params.logit_bias) == {"50256": -100.0, "7": 0.5}


async def test_unknown_top_level_keys_pass_verbatim(client: httpx.AsyncClient, core: Any) -> None:
    """Keys that the contract does not know reach the core with every digit."""
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"x"}],'
        b'"big":12345678901234567890123,"one":1.0,"o":{"b":null,"a":[1e2]},"user":null}'
    )
    answer = await client.post(URL, content=body)

    assert answer.status_code == 200
    assert core.asked("create")[0].params.extra_json == (
        b'{"big":12345678901234567890123,"one":1.0,"o":{"b":null,"a":[1e2]},"user":null}'
    )


async def test_metadata_keeps_its_text(client: httpx.AsyncClient, core: Any) -> None:
    """Metadata of any JSON values is kept as it came."""
    params = await params_of(client, core, metadata={"a": [1, {"b": None}]})

    assert json.loads(params.metadata_json) == {"a": [1, {"b": None}]}


async def test_messages_arrive_with_all_they_hold(client: httpx.AsyncClient, core: Any) -> None:
    """Calls, results, reasoning, and keys only the client knows survive the way to the core."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{bad"}}
    messages = [
        {"role": "system", "content": "s", "name": "n", "annotations": []},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "reasoning": "think",
            "reasoning_details": [{"type": "reasoning.text"}],
            "tool_calls": [{**call, "extra_content": {"google": 1}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": ""},
        {"role": "user", "content": []},
    ]
    params = await params_of(client, core, messages=messages)

    system, assistant, tool, user = params.messages
    assert (system.text, system.name, system.extra_json) == ("s", "n", b'{"annotations":[]}')
    assert assistant.WhichOneof("content") is None
    assert not assistant.HasField("refusal")
    assert assistant.reasoning == "think"
    assert json.loads(assistant.reasoning_details_json) == [{"type": "reasoning.text"}]
    assert assistant.tool_calls[0].arguments == "{bad"
    assert assistant.tool_calls[0].extra_json == b'{"extra_content":{"google":1}}'
    assert (tool.WhichOneof("content"), tool.text, tool.tool_call_id) == ("text", "", "c1")
    assert (user.WhichOneof("content"), len(user.parts.parts)) == ("parts", 0)


PARTS: list[tuple[dict[str, Any], str, bytes]] = [
    ({"type": "text", "text": "t"}, "text", b""),
    ({"text": "t", "cache_control": {"a": 1}}, "text", b'{"cache_control":{"a":1}}'),
    ({"image_url": {"url": "https://x", "detail": "low"}}, "image_url", b""),
    ({"type": "file", "file": {"file_id": "f"}}, "file", b""),
    (
        {"type": "input_audio", "input_audio": {"data": "AA"}},
        "input_audio",
        b'{"input_audio":{"data":"AA"}}',
    ),
]


@pytest.mark.parametrize(("part", "kind", "extra"), PARTS)
async def test_parts_arrive_with_their_type(
    client: httpx.AsyncClient, core: Any, part: dict[str, Any], kind: str, extra: bytes
) -> None:
    """A part's type is what it says or else what it holds; further keys stay with it."""
    params = await params_of(client, core, messages=[{"role": "user", "content": [part]}])

    (got,) = params.messages[0].parts.parts
    assert (got.type, got.extra_json) == (kind, extra)


def message(**fields: Any) -> dict[str, Any]:
    """Return a request whose one message has these fields."""
    return {"messages": [{**USER, **fields}]}


def call(**fields: Any) -> dict[str, Any]:
    """Return a request whose one message has a call with these fields."""
    plain = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    return message(tool_calls=[{**plain, **fields}])


MISSING = "missing_required_parameter"
INVALID = "invalid_value"
REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"messages": None}, MISSING, "messages"),
    ({"messages": []}, INVALID, "messages"),
    ({"messages": "hi"}, INVALID, "messages"),
    ({"messages": [7]}, INVALID, "messages[0]"),
    ({"messages": [None]}, INVALID, "messages[0]"),
    ({"logit_bias": {"5": None}}, INVALID, "logit_bias"),
    ({"messages": [USER, {"content": "x"}]}, MISSING, "messages[1].role"),
    (message(role="wizard"), INVALID, "messages[0].role"),
    (message(role=None), MISSING, "messages[0].role"),
    (message(content=5), INVALID, "messages[0].content"),
    (message(content=[{"type": "video"}]), INVALID, "messages[0].content[0].type"),
    (message(content=[{}]), MISSING, "messages[0].content[0].type"),
    (message(content=[{"type": "text"}]), MISSING, "messages[0].content[0].text"),
    (message(content=[{"type": "image_url", "image_url": {}}]), MISSING, "messages[0].content[0].image_url.url"),
    (message(content=[{"type": "image_url", "image_url": "u"}]), INVALID, "messages[0].content[0].image_url"),
    (message(reasoning_details={}), INVALID, "messages[0].reasoning_details"),
    (call(id=None), MISSING, "messages[0].tool_calls[0].id"),
    (call(type="custom"), INVALID, "messages[0].tool_calls[0].type"),
    (call(function={"name": "f"}), MISSING, "messages[0].tool_calls[0].function.arguments"),
    ({"model": None}, MISSING, "model"),
    ({"model": None, "models": []}, MISSING, "model"),
    ({"model": 5}, INVALID, "model"),
    ({"models": ["a", 5]}, INVALID, "models[1]"),
    ({"temperature": "hot"}, INVALID, "temperature"),
    ({"temperature": True}, INVALID, "temperature"),
    ({"max_tokens": 64.5}, INVALID, "max_tokens"),
    ({"max_tokens": "64"}, INVALID, "max_tokens"),
    ({"max_tokens": 2**63}, INVALID, "max_tokens"),
    ({"seed": 10**30}, INVALID, "seed"),
    ({"n": "two"}, INVALID, "n"),
    ({"n": 1.5}, INVALID, "n"),
    ({"n": 0}, INVALID, "n"),
    ({"stream": "yes"}, INVALID, "stream"),
    ({"stream_options": []}, INVALID, "stream_options"),
    ({"stop": 5}, INVALID, "stop"),
    ({"stop": ["a", 5]}, INVALID, "stop[1]"),
    ({"logit_bias": {"5": "x"}}, INVALID, "logit_bias"),
    ({"metadata": []}, INVALID, "metadata"),
    ({"metadata": "x"}, INVALID, "metadata"),
    ({"tags": "x"}, INVALID, "tags"),
    ({"tags": [1]}, INVALID, "tags[0]"),
    ({"store": 1}, INVALID, "store"),
    ({"trace": {}}, MISSING, "trace.id"),
    ({"trace": {"id": "t", "foo": 1}}, INVALID, "trace.foo"),
    ({"trace": {"id": "t", "metadata": 5}}, INVALID, "trace.metadata"),
    ({"reasoning": {"effort": "most"}}, INVALID, "reasoning.effort"),
    ({"response_format": {"type": "xml"}}, INVALID, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, MISSING, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": 5}}},
        INVALID,
        "response_format.json_schema.schema",
    ),
    ({"tools": [{"type": "web_search"}]}, INVALID, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, MISSING, "tools[0].function"),
    ({"tools": [{"type": "custom", "function": {"name": "f"}}]}, INVALID, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {}}]}, MISSING, "tools[0].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}]},
        INVALID,
        "tools[0].function.parameters",
    ),
    ({"tool_choice": "maybe"}, INVALID, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, MISSING, "tool_choice.function"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
async def test_a_field_that_does_not_fit_is_named(
    client: httpx.AsyncClient, core: Any, fields: dict[str, Any], code: str, param: str
) -> None:
    """A wrong field is a 400 with its path and the exact code, and no completion is asked for."""
    answer = await client.post(URL, json={"model": "m", "messages": [USER], **fields})
    error = answer.json()["error"]

    assert answer.status_code == 400
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]
    assert core.asked("create") == core.asked("stream") == []


async def test_models_alone_are_enough(client: httpx.AsyncClient, core: Any) -> None:
    """Without a model the first fallback serves, so the request is complete."""
    params = await params_of(client, core, model=None, models=["a"])

    assert not params.HasField("model")


async def test_strict_edges_refuse_unknown_keys(tight_edge: Any, core: Any) -> None:
    """With strict_requests an unknown top-level key is a 422 that names it."""
    async with tight_edge.client() as client:
        answer = await client.post(URL, json={"model": "m", "messages": [USER], "top_k": 1})

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "validation_error"
    assert answer.json()["detail"] == [
        {
            "loc": ["body", "top_k"],
            "msg": "Extra inputs are not permitted.",
            "type": "extra_forbidden",
        }
    ]
    assert core.asked("create") == []
