"""Requests in the form of Bedrock's Converse API: messages, tools, parameters, address and headers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.base import HttpCall, Prompt, Target
from maniac_core.providers.registry import DIALECTS

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-pro-v1:0"
USER = {"role": "user", "content": "Hello"}
PNG = "data:image/png;base64,aGVsbG8="
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
SPEC = {"toolSpec": {"name": "look_up", "inputSchema": {"json": {"type": "object"}}}}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
CACHED = {"type": "ephemeral"}
POINT = {"cachePoint": {"type": "default"}}


def call(
    messages: list[dict[str, Any]] | None = None,
    *,
    model: str = CLAUDE,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    stream: bool = False,
    **parameters: Any,
) -> HttpCall:
    target = Target(
        provider="bedrock",
        config=ProviderConfig(kind="bedrock", region="eu-west-1"),
        model=model,
        api_key=key,
    )
    prompt = Prompt(
        messages=messages or [USER], parameters=parameters, stream=stream, headers=headers or {}
    )
    return DIALECTS["bedrock"].of(model).encode(target, prompt)


def body_of(*args: Any, **keywords: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call(*args, **keywords).body)
    return body


def assistant_call(call_id: str = "c1", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": "look_up", "arguments": arguments}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(call_id: str = "c1", content: Any = "42", **keys: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **keys}


@pytest.mark.parametrize(
    ("model", "stream", "path"),
    [
        (NOVA, False, "amazon.nova-pro-v1%3A0/converse"),
        (NOVA, True, "amazon.nova-pro-v1%3A0/converse-stream"),
        (
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x",
            False,
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x/converse",
        ),
        ("../x", False, "..%2Fx/converse"),
    ],
)
def test_the_address_names_the_model(model: str, *, stream: bool, path: str) -> None:
    """In the region's endpoint; the body does not name it again."""
    made = call(model=model, stream=stream)
    assert made.url == f"https://bedrock-runtime.eu-west-1.amazonaws.com/model/{path}"
    assert json.loads(made.body) == {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
    assert "authorization" not in dict(made.headers)


def test_an_api_key_is_a_bearer() -> None:
    """Then nothing is signed."""
    headers = dict(call(key="bedrock-key", headers={"traceparent": "t"}).headers)
    assert (headers["authorization"], headers["traceparent"]) == ("Bearer bedrock-key", "t")


def test_messages_have_a_list_of_blocks_each() -> None:
    """System texts apart, neighbours of one role together, results first in the user's turn."""
    body = body_of(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": "Be short."},
            USER,
            {"role": "user", "content": [{"type": "text", "text": "More"}]},
            assistant_call(arguments='{"a": 12345678901234567890}'),
            result(content="no", is_error=True),
            USER,
            {"role": "assistant", "content": "So  "},
        ],
        tools=[TOOL],
    )
    assert body["system"] == [{"text": "Be kind."}, {"text": "Be short."}]
    use = {"toolUseId": "c1", "name": "look_up", "input": {"a": 12345678901234567890}}
    told = {"toolUseId": "c1", "content": [{"text": "no"}], "status": "error"}
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "Hello"}, {"text": "More"}]},
        {"role": "assistant", "content": [{"toolUse": use}]},
        {"role": "user", "content": [{"toolResult": told}, {"text": "Hello"}]},
        {"role": "assistant", "content": [{"text": "So"}]},
    ]


def test_media_are_bytes_and_documents_have_names_of_their_own() -> None:
    """Names hold few kinds of characters, and no two are the same."""
    pdf = {"file_data": "data:application/pdf;base64,aGk=", "filename": "a/b_c.pdf"}
    text = {"file_data": "data:text/plain;base64,aGk="}
    parts = [{"type": "image_url", "image_url": {"url": PNG}}]
    parts += [{"type": "file", "file": file} for file in (pdf, pdf, text)]
    [message] = body_of([{"role": "user", "content": parts}])["messages"]
    image, *documents = message["content"]
    assert image == {"image": {"format": "png", "source": {"bytes": "aGVsbG8="}}}
    shown = [(one["document"]["format"], one["document"]["name"]) for one in documents]
    assert shown == [("pdf", "a b c pdf"), ("pdf", "a b c pdf (2)"), ("txt", "document")]


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "https://h/a.png"}}, "image_url.url"),
        ({"type": "file", "file": {"file_data": "data:audio/mpeg;base64,aGk="}}, "file.file_data"),
    ],
)
def test_media_that_it_cannot_have_are_refused(part: dict[str, Any], param: str) -> None:
    """It fetches nothing, and knows few types of documents."""
    with pytest.raises(GatewayError) as refused:
        call([{"role": "user", "content": [part]}])
    assert refused.value.param == f"messages[0].content[0].{param}"


def test_what_is_cached_is_followed_by_a_point() -> None:
    """In system texts, tools, messages and results; with its lifetime, if it has one."""
    body = body_of(
        [
            {"role": "system", "content": "S", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            {"role": "user", "content": [{"type": "text", "text": "U", "cache_control": CACHED}]},
            assistant_call(),
            result(cache_control=CACHED),
        ],
        tools=[{**TOOL, "cache_control": CACHED}],
    )
    assert body["system"] == [{"text": "S"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["toolConfig"]["tools"] == [SPEC, POINT]
    assert body["messages"][0]["content"] == [{"text": "U"}, POINT]
    assert body["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "42"}]}},
        POINT,
    ]


def test_ids_of_others_are_made_fit() -> None:
    """The same for the call and its result."""
    body = body_of([assistant_call("a b/" + "c" * 70), result("a b/" + "c" * 70)], tools=[TOOL])
    used = body["messages"][0]["content"][0]["toolUse"]["toolUseId"]
    assert used == body["messages"][1]["content"][0]["toolResult"]["toolUseId"]
    assert len(used) == 64


SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("model", "format_", "is_sent"),
    [
        (CLAUDE, "anthropic-claude-v1", True),
        (CLAUDE, "aws-bedrock-v1", True),
        (CLAUDE, "google-gemini-v1", False),
        (NOVA, "anthropic-claude-v1", False),
        (NOVA, "aws-bedrock-v1", True),
    ],
)
def test_thinking_goes_back_to_whom_it_came_from(
    model: str, format_: str, *, is_sent: bool
) -> None:
    """With its signature; redacted thinking only where Bedrock gave it."""
    details = [{**SIGNED, "format": format_}, {"type": "reasoning.text", "text": "unsigned"}]
    turn = {"role": "assistant", "content": "Hi", "reasoning_details": details}
    message = body_of([USER, turn, USER], model=model)["messages"][1]
    block = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    assert message["content"] == [*([block] if is_sent else []), {"text": "Hi"}]


@pytest.mark.parametrize(
    ("format_", "is_sent"), [("aws-bedrock-v1", True), ("anthropic-claude-v1", False)]
)
def test_redacted_thinking_stays_at_bedrock(format_: str, *, is_sent: bool) -> None:
    """Anthropic's own has another form."""
    detail = {"type": "reasoning.encrypted", "data": "eA==", "format": format_}
    turn = {"role": "assistant", "content": "Hi", "reasoning_details": [detail]}
    content = body_of([USER, turn, USER])["messages"][1]["content"]
    assert content[:-1] == ([{"reasoningContent": {"redactedContent": "eA=="}}] if is_sent else [])


@pytest.mark.parametrize("model", [CLAUDE, NOVA])
def test_parameters_have_their_own_names(model: str) -> None:
    """What only the model knows goes to it as it came, and Converse's own words stay where they are."""
    given = call(
        model=model,
        max_completion_tokens=7,
        temperature=1.5,
        stop=["x", " "],
        top_k=5,
        seed=1,
        user="u",
        logit_bias={"1": 1},
        guardrailConfig={"guardrailIdentifier": "g"},
        additionalModelRequestFields={"top_k": 6, "further": True},
    )
    body = json.loads(given.body)
    assert body["inferenceConfig"] == {"maxTokens": 7, "temperature": 1.0, "stopSequences": ["x"]}
    assert body["guardrailConfig"] == {"guardrailIdentifier": "g"}
    assert body["additionalModelRequestFields"] == {"top_k": 6, "further": True}
    assert set(given.dropped) == {"seed", "stop", "user", "logit_bias"}


def test_a_limit_is_sent_where_it_is_needed() -> None:
    """Claude's is always there, as at Anthropic; of other models the service knows the largest."""
    assert body_of()["inferenceConfig"] == {"maxTokens": 4096}
    assert "inferenceConfig" not in body_of(model=NOVA)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "look_up"}}, {"tool": {"name": "look_up"}}),
    ],
)
def test_tool_choices(choice: Any, sent: Any) -> None:
    """Each has its own form; the default is not sent."""
    config = body_of(tools=[TOOL], tool_choice=choice)["toolConfig"]
    assert config["tools"] == [SPEC]
    assert config.get("toolChoice") == sent


def test_no_tool_may_be_called_by_leaving_them_out() -> None:
    """Unless the history has calls, which need their tools: then the choice is named as dropped."""
    assert "toolConfig" not in body_of(tools=[TOOL], tool_choice="none")
    history = [USER, assistant_call(), result()]
    kept = call(history, tools=[TOOL], tool_choice="none")
    assert json.loads(kept.body)["toolConfig"] == {"tools": [SPEC]}
    assert kept.dropped == ("tool_choice",)
    assert body_of(history)["toolConfig"] == {"tools": [SPEC]}


def test_parallel_calls_cannot_be_ruled_out() -> None:
    """That is named as dropped."""
    assert call(tools=[TOOL], parallel_tool_calls=False).dropped == ("parallel_tool_calls",)


def test_json_by_schema() -> None:
    """By the service where the model can, else by a tool that must be called."""
    structure = body_of(response_format=FORM)["outputConfig"]["textFormat"]
    assert structure["type"] == "json_schema"
    schema = json.loads(structure["structure"]["jsonSchema"]["schema"])
    assert schema["properties"] == SCHEMA["properties"]
    for model in (NOVA, "anthropic.claude-3-5-sonnet-20240620-v1:0"):
        config = body_of(model=model, response_format=FORM)["toolConfig"]
        assert config["toolChoice"] == {"tool": {"name": "respond_with_json"}}
        assert config["tools"][0]["toolSpec"]["inputSchema"]["json"] == SCHEMA


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
        (
            "global.anthropic.claude-opus-4-6-v1:0",
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (NOVA, None),
    ],
)
def test_reasoning_is_for_the_model(model: str, sent: Any) -> None:
    """In Anthropic's words for its models; of others nothing is known, so it is dropped."""
    given = call(model=model, reasoning={"effort": "low"}, max_tokens=100)
    assert json.loads(given.body).get("additionalModelRequestFields") == sent
    assert given.dropped == (() if sent else ("reasoning",))


def test_betas_of_anthropic_are_for_its_models() -> None:
    """They stand in the body here."""
    headers = {"anthropic-beta": "one, two"}
    assert body_of(headers=headers)["additionalModelRequestFields"] == {
        "anthropic_beta": ["one", "two"]
    }
    assert "additionalModelRequestFields" not in body_of(model=NOVA, headers=headers)


def test_values_that_are_still_text_are_read() -> None:
    """As they come from the edge."""
    raw = msgspec.Raw(b'{"further": 1}')
    assert body_of(additionalModelRequestFields=raw)["additionalModelRequestFields"] == {
        "further": 1
    }
    with pytest.raises(GatewayError, match="additionalModelRequestFields must be an object"):
        call(additionalModelRequestFields=[1])
