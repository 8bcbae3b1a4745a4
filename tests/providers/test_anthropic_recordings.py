"""Recorded exchanges with Anthropic through the dialect: whole, chopped, cut, and the requests that led to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from cuts import offsets
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import ChoiceDelta, Usage
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import Prompt, StreamEnd, StreamItem, StreamModel, Target
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEDecoder

STREAMS = pytest.mark.recordings("anthropic-stream-*")

_PROMPT = Prompt(messages=[], parameters={}, stream=True)


def replay(pieces: Iterable[bytes], *, is_clean: bool = True) -> list[StreamItem]:
    sse, decoder = SSEDecoder(), AnthropicDialect().stream_decoder(_PROMPT)
    items: list[StreamItem] = []
    for piece in pieces:
        for event in sse.feed(piece):
            items += decoder.feed(event)
    for event in sse.finish():
        items += decoder.feed(event)
    assert decoder.malformed == 0
    return items + decoder.finish() if is_clean else items


def accumulated(items: Iterable[StreamItem]) -> Accumulator:
    whole = Accumulator()
    whole.add_all(items)
    return whole


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events, by means that share nothing with the decoders."""
    lines = body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def message_of(body: bytes) -> dict[str, Any]:
    """The message as the provider would have sent it whole."""
    message: dict[str, Any] = {}
    for event in events_of(body):
        delta = event.get("delta", {})
        if event["type"] == "message_start":
            message = event["message"]
        elif event["type"] == "content_block_start":
            message["content"].append({**event["content_block"], "json": ""})
        elif event["type"] == "content_block_delta":
            block = message["content"][event["index"]]
            for name, key in (("text", "text"), ("thinking", "thinking"), ("signature",) * 2):
                if name in delta and name in block:
                    block[key] += delta[name]
            block["json"] += delta.get("partial_json", "")
        elif event["type"] == "message_delta":
            message.update(delta)
            message["usage"].update(event["usage"])
    for block in message["content"]:
        text = block.pop("json")
        if text and text.endswith("}"):
            block["input"] = json.loads(text)
    return message


@pytest.mark.recordings("anthropic-stream-*", without="*incomplete*")
def test_recorded_stream_adds_up_to_its_answer_sent_whole(recording: Any) -> None:
    """Text, calls, reasoning with signatures, finish reason, model and usage are those of the unstreamed form."""
    items = replay([recording.body])
    message = message_of(recording.body)
    whole = AnthropicDialect().decode(json.dumps(message).encode())
    choices = accumulated(items).choices()

    assert items[-1] == StreamEnd()
    for choice in (*choices, *whole.choices):
        for call in choice.message.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    # A stream shows the order of its parts by itself.
    assert choices == [msgspec.structs.replace(choice, blocks=()) for choice in whole.choices]
    assert accumulated(items).usage == whole.usage
    names = [item.name for item in items if isinstance(item, StreamModel)]
    assert names[-1] == whole.upstream_model
    texts = [block["text"] for block in message["content"] if block["type"] == "text"]
    assert (whole.choices[0].message["content"] or "") == "".join(texts)


@STREAMS
def test_recorded_usage_adds_up_to_the_provider_total(recording: Any) -> None:
    """Input with both cache buckets and output with thinking are what the last event of the provider says."""
    wire = message_of(recording.body)["usage"]
    usage = accumulated(replay([recording.body])).usage
    assert usage is not None
    prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert usage.prompt_tokens == sum(wire.get(name) or 0 for name in prompt)
    assert usage.completion_tokens == wire["output_tokens"]
    thinking = (wire.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    assert usage.reasoning_tokens == thinking


@STREAMS
def test_recorded_stream_is_the_same_however_it_is_chopped(recording: Any) -> None:
    """Two pieces, parted at any offset, and single bytes give the items of the whole."""
    body = recording.body
    whole = replay([body])
    assert replay([body[at : at + 1] for at in range(len(body))]) == whole
    for at in offsets(body):
        assert replay([body[:at], body[at:]]) == whole, at


@STREAMS
def test_recorded_stream_that_is_cut_never_looks_whole(recording: Any) -> None:
    """Only with message_stop is it whole; with a clean end also after a stop reason, when all has been sent."""
    body = recording.body
    complete = accumulated(replay([body]))
    last = body.rindex(b"}")
    for at in offsets(body):
        cut = replay([body[:at]], is_clean=False)
        assert (StreamEnd() in cut) == (at > last), at
        items = cut if at > last else replay([body[:at]])
        if items[-1:] != [StreamEnd()]:
            assert not any(item.finish_reason for item in items if isinstance(item, ChoiceDelta))
            assert at <= body.rindex(b'"message_stop"')
        else:
            assert accumulated(items).choices() == complete.choices(), at
            assert accumulated(items).usage == complete.usage


@pytest.mark.recordings("anthropic-stream-incomplete-*")
def test_call_cut_by_the_limit_keeps_its_broken_arguments(recording: Any) -> None:
    """Arguments that the token limit cut are passed on as they are, and the finish reason says length."""
    choice = accumulated(replay([recording.body])).choices()[0]
    arguments = choice.message["tool_calls"][0]["function"]["arguments"]
    assert choice.finish_reason == "length"
    assert arguments.startswith("{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(arguments)


@pytest.mark.recordings("anthropic-stream-web-search-*", "anthropic-stream-stream-a-tool*")
def test_tools_that_run_at_the_provider_are_no_calls(recording: Any) -> None:
    """A search of the provider's own leaves only its text and its usage."""
    items = replay([recording.body])
    choice = accumulated(items).choices()[0]
    assert "tool_calls" not in choice.message
    assert choice.message["content"]
    assert isinstance(accumulated(items).usage, Usage)


@pytest.mark.recordings("anthropic-stream-fallback-response-01")
def test_model_that_took_over_at_the_provider_is_named(recording: Any) -> None:
    """After a fallback block the model that answers is the one that is named."""
    names = [item.name for item in replay([recording.body]) if isinstance(item, StreamModel)]
    handover = next(
        event["content_block"]
        for event in events_of(recording.body)
        if event.get("content_block", {}).get("type") == "fallback"
    )
    assert names == [handover["from"]["model"], handover["to"]["model"]]


@pytest.mark.recordings("anthropic-stream-*refusal*")
def test_refusal_is_a_content_filter(recording: Any) -> None:
    """A refusal ends with content_filter and carries the provider's words, if it gave any."""
    choice = accumulated(replay([recording.body])).choices()[0]
    details = message_of(recording.body)["stop_details"]
    assert choice.finish_reason == "content_filter"
    assert choice.message.get("refusal") == details["explanation"]


def encoded(recording: Any, messages: list[dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    """Encode a request in OpenAI's form for the recorded model, under the recorded limit."""
    sent = recording.request["body"]
    target = Target(
        provider="anthropic",
        config=ProviderConfig(kind="anthropic", base_url="https://api.anthropic.com"),
        model=sent["model"],
        api_key="key",
        max_output_tokens=sent["max_tokens"],
    )
    prompt = Prompt(messages=messages, parameters=parameters, stream=True)
    call = AnthropicDialect().encode(target, prompt)
    assert call.dropped == ()
    body: dict[str, Any] = json.loads(call.body)
    return body


def assert_same_meaning(body: dict[str, Any], recording: Any, *extra: str) -> None:
    """The keys that carry meaning are those of the recorded request; temperature 1 is the default."""
    sent = recording.request["body"]
    assert body["stream"] is True
    for key in ("model", "messages", "tools", "stop_sequences", "max_tokens", *extra):
        assert body.get(key) == sent.get(key), key


@pytest.mark.recordings("anthropic-stream-image-prompt-01", "anthropic-stream-url-prompt-01")
def test_recorded_image_request_is_what_openai_parts_become(recording: Any) -> None:
    """Data URLs are inlined, https URLs passed on, each before its text."""
    image, text = recording.request["body"]["messages"][0]["content"]
    source = image["source"]
    url = source.get("url") or f"data:{source['media_type']};base64,{source['data']}"
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}, text]
    assert_same_meaning(encoded(recording, [{"role": "user", "content": parts}]), recording)


@pytest.mark.recordings(
    "anthropic-stream-fixed-version-tool-chain-with-thinking-display-regressio-02"
)
def test_recorded_tool_chain_with_thinking_survives_the_round_trip(recording: Any) -> None:
    """Signed thinking, the call and its result go back as the provider wants them."""
    sent = recording.request["body"]
    user, assistant, results = sent["messages"]
    thought, use = assistant["content"]
    detail = {
        "type": "reasoning.text",
        "text": thought["thinking"],
        "signature": thought["signature"],
        "format": "anthropic-claude-v1",
        "index": 0,
    }
    call = {
        "id": use["id"],
        "type": "function",
        "function": {"name": use["name"], "arguments": ""},
    }
    tool = sent["tools"][0]
    function = {"name": tool["name"], "description": tool["description"], "parameters": {}}
    body = encoded(
        recording,
        [
            {"role": "user", "content": user["content"][0]["text"]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_details": [detail],
                "tool_calls": [call],
            },
            {
                "role": "tool",
                "tool_call_id": use["id"],
                "content": results["content"][0]["content"],
            },
        ],
        tools=[{"type": "function", "function": {**function, "parameters": tool["input_schema"]}}],
        reasoning={"effort": "minimal"},
    )
    assert_same_meaning(body, recording)
    assert body["thinking"] == {key: sent["thinking"][key] for key in ("type", "budget_tokens")}


@pytest.mark.recordings("anthropic-stream-opus-46-schema-01", "anthropic-stream-schema-prompt-01")
def test_recorded_schema_request_uses_structured_output(recording: Any) -> None:
    """A json_schema format becomes the native one, but for titles, which carry no rule."""
    sent = recording.request["body"]
    schema = sent["output_config"]["format"]["schema"]
    form = {"type": "json_schema", "json_schema": {"name": "dog", "schema": schema}}
    messages = [{"role": "user", "content": sent["messages"][0]["content"]}]
    body = encoded(recording, messages, response_format=form)
    assert_same_meaning(body, recording)
    without_titles = json.loads(
        json.dumps(sent["output_config"]),
        object_hook=lambda node: {
            key: value for key, value in node.items() if key != "title" or isinstance(value, dict)
        },
    )
    assert body["output_config"] == without_titles


@pytest.mark.recordings("anthropic-stream-prompt-with-prefill-and-stop-sequences-01")
def test_recorded_prefill_and_stop_sequences_go_through(recording: Any) -> None:
    """A final assistant message is the start of the answer; stop becomes stop_sequences."""
    sent = recording.request["body"]
    messages = [
        {"role": message["role"], "content": message["content"][0]["text"]}
        for message in sent["messages"]
    ]
    body = encoded(recording, messages, stop=sent["stop_sequences"][0])
    assert_same_meaning(body, recording)


@pytest.mark.recordings(
    "anthropic-stream-opus-46-adaptive-thinking-01",
)
def test_recorded_adaptive_thinking_is_asked_for_by_effort(recording: Any) -> None:
    """From 4.6 on an effort turns adaptive thinking on, without a budget."""
    sent = recording.request["body"]
    messages = [{"role": "user", "content": sent["messages"][0]["content"][0]["text"]}]
    body = encoded(recording, messages, reasoning={"effort": "high"})
    assert_same_meaning(body, recording, "thinking")
    assert body["output_config"] == {"effort": "high"}
