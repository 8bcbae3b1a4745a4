"""Requests in Anthropic's form: messages, tools, formats, parameters, address and headers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import HttpCall, Prompt, Target

USER = {"role": "user", "content": "Hello"}
PNG = "data:image/png;base64,aGVsbG8="
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def call(
    messages: list[dict[str, Any]],
    *,
    model: str = "claude-sonnet-4-5",
    limit: int | None = None,
    base_url: str = "https://api.anthropic.com",
    headers: dict[str, str] | None = None,
    stream: bool = False,
    **parameters: Any,
) -> HttpCall:
    target = Target(
        provider="anthropic",
        config=ProviderConfig(kind="anthropic", base_url=base_url),
        model=model,
        api_key="secret",
        max_output_tokens=limit,
    )
    prompt = Prompt(messages=messages, parameters=parameters, stream=stream, headers=headers or {})
    return AnthropicDialect().encode(target, prompt)


def body_of(messages: list[dict[str, Any]], **keywords: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call(messages, **keywords).body)
    return body


def assistant_call(call_id: str = "c1", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": "look_up", "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(call_id: str = "c1", content: Any = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    "base_url", ["https://host", "https://host/", "https://host/v1", "https://host/v1/"]
)
def test_base_url_may_end_with_the_version(base_url: str) -> None:
    """The address is the same whether or not the configured one names the version."""
    assert call([USER], base_url=base_url).url == "https://host/v1/messages"


def test_headers_carry_key_version_and_what_may_be_forwarded() -> None:
    """Of the caller's headers only anthropic-beta and traceparent go on."""
    headers = dict(
        call(
            [USER],
            headers={"anthropic-beta": "x-1", "traceparent": "00-a-b-01", "openai-project": "p"},
            stream=True,
        ).headers
    )
    assert headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "anthropic-version": "2023-06-01",
        "x-api-key": "secret",
        "anthropic-beta": "x-1",
        "traceparent": "00-a-b-01",
    }


def test_system_messages_are_hoisted_and_joined_by_a_blank_line() -> None:
    """System and developer messages, late ones too, become one text in their order."""
    body = body_of(
        [
            {"role": "system", "content": "One."},
            USER,
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        ]
    )
    assert body["system"] == "One.\n\nTwo."
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def test_cache_control_reaches_every_kind_of_block() -> None:
    """A mark on a part, a message, a call, a result or a tool goes along; in the system text it makes blocks."""
    mark = msgspec.Raw(b'{"type":"ephemeral"}')
    ephemeral = {"type": "ephemeral"}
    using = assistant_call()
    using["tool_calls"][0]["cache_control"] = mark
    body = body_of(
        [
            {"role": "system", "content": [{"type": "text", "text": "S", "cache_control": mark}]},
            {**USER, "cache_control": mark},
            using,
            {**result(), "cache_control": mark},
        ],
        tools=[{**TOOL, "cache_control": mark}],
    )
    assert body["system"] == [{"type": "text", "text": "S", "cache_control": ephemeral}]
    user, assistant, results = body["messages"]
    assert user["content"][0]["cache_control"] == ephemeral
    assert assistant["content"][0]["cache_control"] == ephemeral
    assert results["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "42"}],
        "cache_control": ephemeral,
    }
    assert body["tools"][0]["cache_control"] == ephemeral


def test_messages_of_one_role_become_one_with_tool_results_first() -> None:
    """Results of parallel calls stand together, in the order of the calls, before the user's words."""
    both = assistant_call("a")
    both["tool_calls"] += assistant_call("b")["tool_calls"]
    body = body_of(
        [USER, {"role": "user", "content": "Go"}, both, result("b", "2"), result("a", "1"), USER]
    )
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["Hello", "Go"]
    kinds = [
        (block["type"], block.get("tool_use_id"), block.get("content") or block.get("text"))
        for block in body["messages"][2]["content"]
    ]
    assert kinds == [
        ("tool_result", "a", "1"),
        ("tool_result", "b", "2"),
        ("text", None, "Hello"),
    ]


def test_tool_results_may_be_empty_or_hold_images() -> None:
    """An empty result has no content, an image stays one."""
    image = {"type": "image_url", "image_url": {"url": PNG}}
    body = body_of([USER, assistant_call(), result(content="")])
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "c1"}]
    body = body_of([USER, assistant_call(), result(content=[image])])
    source = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
    assert body["messages"][2]["content"][0]["content"] == [{"type": "image", "source": source}]


def test_arguments_keep_their_numbers_and_foreign_ids_are_made_fit() -> None:
    """Arguments are embedded as written; an id with characters this provider refuses is changed the same everywhere."""
    big = '{"n": 12345678901234567890123, "x": 1.0}'
    sent = call([USER, assistant_call("functions.f:0", big), result("functions.f:0")]).body
    assert b'"input":{"n": 12345678901234567890123, "x": 1.0}' in sent
    messages = json.loads(sent)["messages"]
    assert messages[1]["content"][0]["id"] == "functions_f_0"
    assert messages[2]["content"][0]["tool_use_id"] == "functions_f_0"


def test_blank_texts_are_left_out_and_a_prefill_loses_its_trailing_space() -> None:
    """The provider refuses blocks of white space, and white space at the end of a prefill."""
    parts = [{"type": "text", "text": ""}, {"type": "text", "text": " \n"}, {"text": "Hi"}]
    body = body_of([{"role": "user", "content": parts}, {"role": "assistant", "content": "Ok: \n"}])
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Ok:"}]


def test_pdf_files_become_documents() -> None:
    """A PDF by data URL is inlined with its name as the title."""
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    body = body_of([{"role": "user", "content": [{"type": "file", "file": file}]}])
    assert body["messages"][0]["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        }
    ]


CSV = {"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": " \n"}], "messages[0].content"),
        ([{"role": "user", "content": [CSV]}], "messages[0].content[0].file.file_data"),
        ([USER, assistant_call()], "messages[1].tool_calls"),
    ],
)
def test_what_this_wire_cannot_carry_is_refused_by_name(messages: Any, param: str) -> None:
    """White space alone, other files than PDFs, and whatever cannot be understood are a 400."""
    with pytest.raises(GatewayError) as caught:
        call(messages)
    assert caught.value.param == param


def test_schema_settings_of_the_wrong_kind_are_refused() -> None:
    """Keys of this wire that are merged into have to be objects."""
    with pytest.raises(GatewayError) as caught:
        call([USER], output_config=msgspec.Raw(b"1"))
    assert caught.value.param == "output_config"


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        (
            {"type": "function", "function": {"name": "look_up"}},
            None,
            {"type": "tool", "name": "look_up"},
        ),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice_and_parallel_calls(choice: Any, parallel: Any, expected: Any) -> None:
    """The modes have other names, and parallel calls are switched off inside of them."""
    body = body_of([USER], tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == expected
    assert body["tools"] == [{"name": "look_up", "input_schema": {"type": "object"}}]


def test_forced_tool_is_left_to_models_that_take_it() -> None:
    """Where the provider refuses to force a tool the model may still choose it, and that is reported."""
    sent = call([USER], model="claude-opus-5-5", tools=[TOOL], tool_choice="required")
    assert json.loads(sent.body)["tool_choice"] == {"type": "auto"}
    assert sent.dropped == ("tool_choice",)


def test_parameters_are_mapped_and_the_rest_is_dropped_by_name_or_verbatim() -> None:
    """What Anthropic knows arrives, what only OpenAI knows is reported, what neither knows goes through as it is."""
    sent = call(
        [USER],
        temperature=1.7,
        top_k=msgspec.Raw(b"40"),
        stop=["END", "\n"],
        max_tokens=100,
        max_completion_tokens=50,
        user=msgspec.Raw(b'"u-1"'),
        seed=1,
        frequency_penalty=0.5,
        presence_penalty=0.5,
        logit_bias={"1": 2},
        service_tier=msgspec.Raw(b'"flex"'),
        verbosity=None,
        context_management=msgspec.Raw(b'{"edits":[1.0]}'),
    )
    body = json.loads(sent.body)
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert body == {
        "model": "claude-sonnet-4-5",
        "messages": messages,
        "stream": False,
        "temperature": 1.0,
        "top_k": 40,
        "stop_sequences": ["END"],
        "max_tokens": 50,
        "metadata": {"user_id": "u-1"},
        "context_management": {"edits": [1.0]},
    }
    assert b'{"edits":[1.0]}' in sent.body
    assert set(sent.dropped) == {
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "service_tier",
        "stop",
    }


@pytest.mark.parametrize(
    ("model", "given", "kept", "dropped"),
    [
        ("claude-sonnet-4-5", {"temperature": 0.5, "top_p": 0.9}, {"temperature"}, ("top_p",)),
        ("claude-sonnet-4-5", {"top_p": 0.9}, {"top_p"}, ()),
        (
            "claude-3-5-haiku-latest",
            {"temperature": 0.5, "top_p": 0.9},
            {"temperature", "top_p"},
            (),
        ),
        ("claude-opus-4-7", {"temperature": 0.5}, set(), ("temperature",)),
        ("claude-opus-5", {"top_p": 0.9, "top_k": 3}, set(), ("top_p", "top_k")),
        ("kimi-k2", {"temperature": 0.5, "top_p": 0.9}, {"temperature", "top_p"}, ()),
    ],
)
def test_sampling_by_model(
    model: str, given: dict[str, Any], kept: set[str], dropped: tuple[str, ...]
) -> None:
    """Models refuse some or all sampling parameters; these are dropped and named."""
    sent = call([USER], model=model, **given)
    assert json.loads(sent.body).keys() & {"temperature", "top_p", "top_k"} == kept
    assert sent.dropped == dropped


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        ({}, None, 4096),
        ({}, 64000, 64000),
        ({"max_tokens": 99}, 64000, 99),
        ({"max_tokens": 0}, 64000, 0),
    ],
)
def test_limit_is_required_and_filled_in(given: Any, limit: int | None, expected: int) -> None:
    """Without the caller's limit it is the model's largest, or 4,096 when that is unknown; 0 is a limit, too."""
    assert body_of([USER], limit=limit, **given)["max_tokens"] == expected


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


CLOSED = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}}


def test_json_schema_is_native_where_the_model_has_it() -> None:
    """Objects are closed, and rules that it cannot check stand in the description."""
    body = body_of([USER], response_format=schema_format(CLOSED))
    schema = body["output_config"]["format"]["schema"]
    assert schema == {
        "type": "object",
        "properties": {"a": {"type": "string", "description": "minLength 2"}},
        "additionalProperties": False,
    }
    assert "tools" not in body


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("claude-opus-4-0", schema_format(CLOSED)),
        ("claude-sonnet-4-5", schema_format({"type": "object", "additionalProperties": True})),
        ("claude-sonnet-4-5", {"type": "json_object"}),
    ],
)
def test_json_is_a_forced_tool_where_it_is_not_native(model: str, form: dict[str, Any]) -> None:
    """Older models, open objects and json_object answer through the arguments of one tool."""
    body = body_of([USER], model=model, response_format=form)
    assert [tool["name"] for tool in body["tools"]] == ["respond_with_json"]
    assert body["tools"][0]["input_schema"]["type"] == "object"
    assert body["tool_choice"] == {
        "type": "tool",
        "name": "respond_with_json",
        "disable_parallel_tool_use": True,
    }


def test_forced_json_leaves_room_for_the_callers_tools() -> None:
    """With tools of the caller some tool is forced, not that of the answer, unless tools are off."""
    form = {"type": "json_object"}
    body = body_of([USER], tools=[TOOL], response_format=form)
    assert body["tool_choice"]["type"] == "any"
    body = body_of([USER], tools=[TOOL], response_format=form, tool_choice="none")
    assert body["tool_choice"]["name"] == "respond_with_json"


def test_json_that_can_be_neither_native_nor_forced_is_dropped() -> None:
    """Models that refuse forced tools cannot be held to an open JSON object."""
    sent = call([USER], model="claude-opus-5-5", response_format={"type": "json_object"})
    assert "tools" not in json.loads(sent.body)
    assert sent.dropped == ("response_format",)


def test_strict_tools_are_reported() -> None:
    """The promise of strict arguments is not passed on, and the caller is told."""
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    assert call([USER], tools=[strict]).dropped == ("tools.strict",)
