"""A provider's JSON that is made to be slow to read."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import msgspec
import pytest
from maniac_core.providers.base import Prompt, StreamError, UpstreamFailure
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.translation.foreign_json import decode
from maniac_core.providers.transport.sse import SSEEvent

_anything = msgspec.json.Decoder()
MIB = 1024 * 1024
# A second on a loaded machine; what it replaces takes minutes.
LONGEST_S = 1.0
SLOW = {
    "escaped quotes that nothing closes": b'"' + b'\\"' * 100_000,
    "quotes": b'{"a":' + b'""' * MIB,
    "no numbers": b"[" + b"NaN" * 300_000,
    "halves of pairs": b'["' + b"\\ud800" * 300_000,
    "escapes before half of a pair": b'["' + b"\\n" * 400_000 + b'\\ud800"',
    "backslashes": b'{"a' + b"\\" * MIB,
    "minus signs": b"[" + b"-1,-" * 200_000 + b"NaN]",
}


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW.keys())
def test_mending_takes_no_longer_than_reading(data: bytes) -> None:
    """Nothing that a provider sends holds the core up: its time grows with the bytes alone."""
    began = time.process_time()
    with contextlib.suppress(msgspec.DecodeError):
        decode(_anything, data)
    assert time.process_time() - began < LONGEST_S


def test_what_python_writes_is_mended() -> None:
    """Numbers that are none are null, half a pair is U+FFFD, and texts that only look so stay as they are."""
    text = rb'{"a": NaN, "b": -Infinity, "c": "NaN \ud83d\ude00 \ud83d \\ud800", "d": [-1, Infinity], "e": "\n\udc00"}'
    assert decode(_anything, text) == {
        "a": None,
        "b": None,
        "c": "NaN \U0001f600 � \\ud800",
        "d": [-1, None],
        "e": "\n�",
    }


def test_more_choices_than_can_be_asked_for_are_no_answer() -> None:
    """Each costs the edge, the client and the record far more than its bytes."""
    choice = b'{"index":0,"message":{"content":"x"},"delta":{"content":"x"}}'
    many = (
        b'{"choices":['
        + b",".join([choice] * 129)
        + b'],"usage":{"prompt_tokens":7,"completion_tokens":9}}'
    )
    dialect = DIALECTS["openai"]

    with pytest.raises(UpstreamFailure, match="choices holds more than 128") as refused:
        dialect.decode(many)
    assert refused.value.usage is not None

    prompt = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
    items = dialect.stream_decoder(prompt).feed(SSEEvent(None, many))
    assert isinstance(items[-1], StreamError)


TOKENS = {
    "openai": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "openai-responses": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
    "anthropic": {"input_tokens": 9, "output_tokens": 3},
    "gemini": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12},
    "bedrock": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12},
}


def _whole(kind: str, count: int) -> dict[str, Any]:
    """Return an answer with so many calls."""
    usage = TOKENS[kind]
    match kind:
        case "openai":
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            message = {"role": "assistant", "tool_calls": [call] * count}
            return {"choices": [{"index": 0, "message": message}], "usage": usage}
        case "openai-responses":
            item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
            return {"status": "completed", "output": [item] * count, "usage": usage}
        case "anthropic":
            block: dict[str, Any] = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
            return {"type": "message", "content": [block] * count, "usage": usage}
        case "gemini":
            parts = [{"functionCall": {"name": "f", "args": {}}}] * count
            return {"candidates": [{"content": {"parts": parts}}], "usageMetadata": usage}
    block = {"toolUse": {"toolUseId": "c", "name": "f", "input": {}}}
    return {"output": {"message": {"content": [block] * count}}, "usage": usage}


def _events(kind: str, count: int) -> list[SSEEvent]:
    """Return the same as events, with a call in each."""
    name = None
    shown: list[dict[str, Any]] = []
    for number in range(count):
        match kind:
            case "openai":
                call = {"index": number, "id": f"c{number}", "function": {"name": "f"}}
                shown.append({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
            case "openai-responses":
                item = {"type": "function_call", "call_id": f"c{number}", "name": "f"}
                kind_of = "response.output_item.added"
                shown.append({"type": kind_of, "output_index": number, "item": item})
            case "anthropic":
                block = {"type": "tool_use", "id": f"c{number}", "name": "f", "input": {}}
                start = "content_block_start"
                shown.append({"type": start, "index": number, "content_block": block})
            case "gemini":
                shown.append(_whole("gemini", 1))
            case _:
                name = "contentBlockStart"
                begun = {"toolUse": {"toolUseId": f"c{number}", "name": "f"}}
                shown.append({"contentBlockIndex": number, "start": begun})
    return [SSEEvent(name, msgspec.json.encode(one)) for one in shown]


@pytest.mark.parametrize("kind", TOKENS)
def test_an_answer_has_a_thousand_tool_calls_at_most(kind: str) -> None:
    """No model makes so many, and each costs far more than its bytes; what they cost is charged all the same."""
    dialect = DIALECTS[kind]
    most = dialect.decode(msgspec.json.encode(_whole(kind, 1000)))
    assert len(most.choices[0].message["tool_calls"]) == 1000

    with pytest.raises(UpstreamFailure, match="holds more than 1000 tool calls") as refused:
        dialect.decode(msgspec.json.encode(_whole(kind, 1001)))
    assert refused.value.usage is not None
    assert refused.value.usage.total_tokens == 12
    assert refused.value.may_be_billed


@pytest.mark.parametrize("kind", TOKENS)
def test_a_stream_has_a_thousand_tool_calls_at_most(kind: str) -> None:
    """One more ends it, as other floods do."""
    prompt = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
    decoder = DIALECTS[kind].stream_decoder(prompt)
    *good, last = _events(kind, 1001)
    items = [item for event in good for item in decoder.feed(event)]
    assert not any(isinstance(item, StreamError) for item in items)

    error = decoder.feed(last)[-1]
    assert isinstance(error, StreamError)
    assert "holds more than 1000 tool calls" in error.failure.message
    assert decoder.feed(last) == []


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini", "openai-responses"])
def test_an_event_with_more_tool_calls_is_refused_unread(kind: str) -> None:
    """It would take as long as a hundred answers, in which nobody else has a turn."""
    whole = _whole(kind, 30_000)
    match kind:
        case "openai":
            whole["choices"][0]["delta"] = whole["choices"][0].pop("message")
        case "anthropic":
            whole = {"type": "message_start", "message": whole}
        case "openai-responses":
            whole = {"type": "response.completed", "response": whole}
    prompt = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
    began = time.process_time()
    items = DIALECTS[kind].stream_decoder(prompt).feed(SSEEvent(None, msgspec.json.encode(whole)))
    assert time.process_time() - began < LONGEST_S / 2
    assert isinstance(items[-1], StreamError)
    assert "holds more than 1000 tool calls" in items[-1].failure.message
    assert len(items) < 10
