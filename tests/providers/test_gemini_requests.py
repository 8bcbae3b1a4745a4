"""Requests in Gemini's form: contents, tools, configuration, thinking, address and headers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.base import HttpCall, Prompt, Target
from maniac_core.providers.gemini.dialect import GeminiDialect

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {}}}
PNG = "data:image/png;base64,aGVsbG8="


def call(
    messages: list[dict[str, Any]],
    *,
    model: str = "gemini-2.5-flash",
    limit: int | None = None,
    base_url: str = "https://host",
    stream: bool = False,
    **parameters: Any,
) -> HttpCall:
    target = Target(
        provider="gemini",
        config=ProviderConfig(kind="gemini", base_url=base_url),
        model=model,
        api_key="secret",
        max_output_tokens=limit,
    )
    headers = {"traceparent": "00-a-b-01", "anthropic-beta": "x"}
    prompt = Prompt(messages=messages, parameters=parameters, stream=stream, headers=headers)
    return GeminiDialect().encode(target, prompt)


def body_of(messages: list[dict[str, Any]], **keywords: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call(messages, **keywords).body)
    return body


def config_of(**keywords: Any) -> dict[str, Any]:
    config: dict[str, Any] = body_of([USER], **keywords).get("generationConfig", {})
    return config


def assistant_call(call_id: str = "c1", name: str = "f", **extra: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": '{"n":12345678901234567890123}'}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function, **extra}],
    }


def result(call_id: str = "c1", content: Any = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    ("base_url", "model", "expected"),
    [
        ("https://host", "gemini-x", "https://host/v1beta/models/gemini-x"),
        ("https://host/v1/", "models/gemini-x", "https://host/v1/models/gemini-x"),
        ("https://host/v1beta", "tunedModels/t", "https://host/v1beta/tunedModels/t"),
        (
            "https://host/v1/projects/p/locations/l/publishers/google",
            "gemini-x",
            "https://host/v1/projects/p/locations/l/publishers/google/models/gemini-x",
        ),
        ("https://host", "../x?a=b", "https://host/v1beta/models/..%2Fx%3Fa%3Db"),
    ],
)
def test_address(base_url: str, model: str, expected: str) -> None:
    """The version may be configured, and a model's name cannot lead elsewhere."""
    assert call([USER], base_url=base_url, model=model).url == f"{expected}:generateContent"
    streamed = call([USER], base_url=base_url, model=model, stream=True).url
    assert streamed == f"{expected}:streamGenerateContent?alt=sse"


def test_key_goes_into_its_header() -> None:
    """The key is never part of the address, and of the caller's headers only traceparent goes on."""
    sent = call([USER], stream=True)
    assert dict(sent.headers) == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-goog-api-key": "secret",
        "traceparent": "00-a-b-01",
    }
    assert "secret" not in sent.url


def test_messages_become_contents() -> None:
    """System messages are hoisted, neighbours of one role merged, results sorted like their calls."""
    both = assistant_call("a", "f")
    both["tool_calls"] += assistant_call("b", "g")["tool_calls"]
    image = {"type": "image_url", "image_url": {"url": PNG}}
    body = body_of(
        [
            {"role": "system", "content": "One."},
            USER,
            {"role": "developer", "content": "Two."},
            {"role": "user", "content": "Go"},
            both,
            result("b", [{"type": "text", "text": "two"}, image]),
            result("a", '{"n": 1.0}'),
            USER,
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "One.\n\nTwo."}]}
    big = {"n": 12345678901234567890123}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "Hello"}, {"text": "Go"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": big}},
                {"functionCall": {"id": "b", "name": "g", "args": big}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "a", "name": "f", "response": {"n": 1.0}}},
                {"functionResponse": {"id": "b", "name": "g", "response": {"output": "two"}}},
                {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}},
                {"text": "Hello"},
            ],
        },
    ]


@pytest.mark.parametrize("text", ["", "plain", "[1]", "7"])
def test_result_that_is_no_object_is_wrapped(text: str) -> None:
    """The wire takes only objects as responses."""
    body = body_of([USER, assistant_call(), result(content=text)])
    response = body["contents"][2]["parts"][0]["functionResponse"]["response"]
    assert response == {"output": text}


def test_files_of_any_type_are_inlined() -> None:
    """A file by data URL goes inline, an image by URL with the type of its name, if that tells."""
    file = {"filename": "a.csv", "file_data": "data:text/csv;base64,YQ=="}
    urls = ["https://host/a.png?x=1", "https://host/a"]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    parts = [{"type": "file", "file": file}, *images]
    assert body_of([{"role": "user", "content": parts}])["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "text/csv", "data": "YQ=="}},
        {"fileData": {"fileUri": urls[0], "mimeType": "image/png"}},
        {"fileData": {"fileUri": urls[1]}},
    ]


SIGNED = {"extra_content": {"google": {"thought_signature": "sig"}}}


@pytest.mark.parametrize(
    ("model", "extra", "expected"),
    [
        ("gemini-3-flash-preview", SIGNED, "sig"),
        ("gemini-2.5-flash", SIGNED, "sig"),
        ("gemini-3-flash-preview", {}, "skip_thought_signature_validator"),
        ("gemini-flash-latest", {}, "skip_thought_signature_validator"),
        ("gemini-2.5-pro", {}, None),
        ("gemini-3-pro-image-preview", {}, None),
    ],
)
def test_signature_of_a_call_goes_back(model: str, extra: Any, expected: str | None) -> None:
    """A signature returns with its call; a first call without one, made by another provider, is marked as such."""
    both = assistant_call("a", **extra)
    both["tool_calls"] += assistant_call("b")["tool_calls"]
    parts = body_of([USER, both, result("a"), result("b")], model=model)["contents"][1]["parts"]
    assert parts[0].get("thoughtSignature") == expected
    assert "thoughtSignature" not in parts[1]


def test_calls_of_finished_turns_need_no_mark() -> None:
    """Only the running tool loop is checked by the provider."""
    messages = [USER, assistant_call(), result(), USER]
    part = body_of(messages, model="gemini-3.8-flash")["contents"][1]["parts"][0]
    assert "thoughtSignature" not in part


def test_signature_of_a_text_goes_back_with_it() -> None:
    """It returns on the text, on an empty one if there is none, and another provider's is left out."""
    own = {"type": "reasoning.encrypted", "data": "sig", "format": "google-gemini-v1", "index": 0}
    foreign = {**own, "format": "anthropic-claude-v1"}
    assistant = {"role": "assistant", "content": "Hi", "reasoning_details": [foreign, own]}
    parts = body_of([USER, assistant, USER])["contents"][1]["parts"]
    assert parts == [{"text": "Hi", "thoughtSignature": "sig"}]
    silent = {**assistant_call(), "reasoning_details": [own]}
    parts = body_of([USER, silent, result()])["contents"][1]["parts"]
    assert parts[0] == {"text": "", "thoughtSignature": "sig"}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([USER, assistant_call()], "messages[1].tool_calls"),
        ([USER, result()], "messages[1].tool_call_id"),
    ],
)
def test_what_this_wire_cannot_carry_is_refused_by_name(messages: Any, param: str) -> None:
    """Conversations are read as strictly as for any dialect that translates."""
    with pytest.raises(GatewayError) as caught:
        call(messages)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("none", {"mode": "NONE"}),
        ("auto", {"mode": "AUTO"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_tool_choice(choice: Any, expected: Any) -> None:
    """The modes have other names; one function is one allowed name."""
    body = body_of([USER], tools=[TOOL], tool_choice=choice)
    assert body["tools"] == [{"functionDeclarations": [{"name": "f", "description": "F."}]}]
    assert body.get("toolConfig", {}).get("functionCallingConfig") == expected


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


NODE = {"type": "object", "properties": {"value": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, NODE),
        ({"allOf": [{"$ref": "#/$defs/Node"}], "$defs": {"Node": NODE}}, NODE),
        ({"properties": NODE["properties"]}, NODE),
        ({"oneOf": [NODE, NODE]}, {"type": "object", "anyOf": [NODE, NODE]}),
        ({"type": "object", "properties": {}}, None),
        ({"type": "object", "additionalProperties": True}, None),
    ],
)
def test_parameters_are_sent_wherever_they_are_declared(parameters: Any, expected: Any) -> None:
    """A function is without parameters only if none are left when references are resolved."""
    [declared] = body_of([USER], tools=[tool(parameters)])["tools"][0]["functionDeclarations"]
    assert declared.get("parameters") == expected


def test_schemas_that_cannot_be_read_are_refused_by_name() -> None:
    """The caller learns which of its schemas it is."""
    broken = {"type": "object", "properties": {"a": {**NODE, "required": True}}}
    with pytest.raises(GatewayError) as caught:
        call([USER], tools=[TOOL, tool(broken)])
    assert caught.value.param == "tools[1].function.parameters"
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": broken}}
    with pytest.raises(GatewayError) as caught:
        call([USER], response_format=form)
    assert caught.value.param == "response_format.json_schema.schema"


def test_references_of_all_schemas_of_a_request_are_bounded_together() -> None:
    """Many schemas that grow a little less than one may are as bad as one that grows more."""
    large = {**NODE, "description": "d" * 1000}
    parameters = {
        "type": "object",
        "properties": {f"p{number}": {"$ref": "#/$defs/D"} for number in range(100)},
        "$defs": {"D": large},
    }
    assert call([USER], tools=[tool(parameters)] * 9)
    with pytest.raises(GatewayError, match="too large with its references resolved"):
        call([USER], tools=[tool(parameters)] * 11)


def test_names_of_dropped_keys_fit_a_header() -> None:
    """A caller may give a key any name."""
    given: dict[str, Any] = {"a\r\nb": 1, "größe": 1, "a,b": 1, "x" * 9999: 1}
    assert call([USER], **given).dropped == ("a%0D%0Ab", "gr%C3%B6%C3%9Fe", "a%2Cb", "x" * 64)


def test_own_words_cannot_make_more_of_an_answer_than_was_agreed() -> None:
    """What a request may cost is reckoned from its limit; there is one answer."""
    own = msgspec.Raw(b'{"maxOutputTokens":65536,"max_output_tokens":9,"candidate_count":8}')
    sent = call([USER], max_tokens=1, generationConfig=own)
    assert json.loads(sent.body)["generationConfig"] == {"maxOutputTokens": 1}
    assert sent.dropped == (
        "generationConfig.maxOutputTokens",
        "generationConfig.max_output_tokens",
        "generationConfig.candidate_count",
    )
    alone = call([USER], generationConfig=msgspec.Raw(b'{"max_output_tokens":9}'))
    assert json.loads(alone.body)["generationConfig"] == {"maxOutputTokens": 9}
    assert alone.dropped == ()


def test_parameters_are_mapped_merged_or_dropped_by_name() -> None:
    """Known ones are renamed, those in the provider's own words merged, all others reported."""
    sent = call(
        [USER],
        temperature=1.5,
        top_p=0.5,
        top_k=msgspec.Raw(b"7"),
        seed=3,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        stop="END",
        max_tokens=9,
        max_completion_tokens=8,
        generationConfig=msgspec.Raw(b'{"candidateCount":1,"topP":0.6,"responseLogprobs":true}'),
        safetySettings=msgspec.Raw(b'[{"category":"C"}]'),
        cachedContent=msgspec.Raw(b'"cachedContents/1"'),
        response_format={"type": "json_object"},
        logit_bias={"1": 1},
        user="u",
        parallel_tool_calls=False,
        repetition_penalty=msgspec.Raw(b"1.1"),
        verbosity=msgspec.Raw(b"null"),
    )
    body = json.loads(sent.body)
    assert body["generationConfig"] == {
        "temperature": 1.5,
        "topP": 0.6,
        "topK": 7,
        "seed": 3,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "stopSequences": ["END"],
        "maxOutputTokens": 8,
        "responseMimeType": "application/json",
        "responseLogprobs": True,
    }
    assert body["safetySettings"] == [{"category": "C"}]
    assert body["cachedContent"] == "cachedContents/1"
    assert set(sent.dropped) == {
        "logit_bias",
        "user",
        "parallel_tool_calls",
        "repetition_penalty",
    }


@pytest.mark.parametrize(
    ("model", "effort", "config", "dropped"),
    [
        ("gemini-2.0-flash", "high", None, True),
        ("gemini-2.0-flash", "none", None, False),
        ("gemma-3", "low", None, True),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, False),
        ("gemini-2.5-flash-lite", "none", {"thinkingBudget": 0}, False),
        ("gemini-2.5-flash", "xhigh", {"thinkingBudget": 24576}, False),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 1024}, False),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, True),
        ("gemini-2.5-pro", "xhigh", {"thinkingBudget": 32768}, False),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL"}, False),
        ("gemini-3.6-flash", "none", {"thinkingLevel": "MINIMAL"}, True),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH"}, False),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM"}, False),
        ("gemini-3.1-flash-lite", "minimal", {"thinkingLevel": "MINIMAL"}, False),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}, False),
        ("gemini-4-argon", "xhigh", {"thinkingLevel": "HIGH"}, False),
        ("gemini-4-argon", "max", {"thinkingLevel": "HIGH"}, False),
        ("gemini-2.5-pro", "max", {"thinkingBudget": 32768}, False),
        ("gemini-flash-latest", "none", {"thinkingLevel": "LOW"}, True),
    ],
)
def test_effort_by_family(model: str, effort: str, config: Any, dropped: bool) -> None:
    """2.5 takes a budget within its bounds, 3 and later the nearest level; what cannot be done is reported."""
    sent = call([USER], model=model, reasoning={"effort": effort})
    expected = config
    if config is not None and effort != "none":
        expected = {**config, "includeThoughts": True}
    thinking = json.loads(sent.body).get("generationConfig", {}).get("thinkingConfig")
    assert thinking == expected
    assert sent.dropped == (("reasoning",) if dropped else ())


def test_thinking_does_not_eat_up_the_limit() -> None:
    """The provider counts thinking into its limit, so a budget is added to the caller's, up to the model's."""
    low = {"effort": "low"}
    assert config_of(max_tokens=100, reasoning=low)["maxOutputTokens"] == 4196
    assert config_of(max_tokens=100, limit=2000, reasoning=low)["maxOutputTokens"] == 2000
    assert config_of(max_tokens=100)["maxOutputTokens"] == 100
    assert "maxOutputTokens" not in config_of(reasoning=low)
    level = config_of(model="gemini-3.8-flash", max_tokens=100, reasoning=low)
    assert level["maxOutputTokens"] == 100
