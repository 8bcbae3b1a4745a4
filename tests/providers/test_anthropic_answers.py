"""Answers of Anthropic in self-written exchanges: stop reasons, usage, streams with faults, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from maniac_core.domain.chat import Answer, ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import (
    Prompt,
    StreamEnd,
    StreamError,
    StreamItem,
    UpstreamFailure,
)
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEEvent

START = {
    "type": "message_start",
    "message": {
        "model": "claude-x",
        "content": [],
        "usage": {"input_tokens": 5, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **keys: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": keys}


def end(stop_reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    usage = usage or {"output_tokens": 2}
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def replay(*events: Any, is_clean: bool = True) -> tuple[list[StreamItem], int]:
    """Return the items of a stream, and how many events made no sense."""
    prompt = Prompt(messages=[], parameters={}, stream=True)
    decoder = AnthropicDialect().stream_decoder(prompt)
    items: list[StreamItem] = []
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        items += decoder.feed(SSEEvent(None, data))
    if is_clean:
        items += decoder.finish()
    return items, decoder.malformed


def folded(*events: Any) -> Accumulator:
    whole = Accumulator()
    whole.add_all(replay(*events)[0])
    return whole


def decode(**keys: Any) -> Answer:
    answer = {"type": "message", "model": "claude-x", "content": [], **keys}
    return AnthropicDialect().decode(json.dumps(answer).encode())


USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}


@pytest.mark.parametrize(
    ("stop_reason", "content", "finish_reason"),
    [
        ("end_turn", [], "stop"),
        ("stop_sequence", [], "stop"),
        ("pause_turn", [], "stop"),
        ("max_tokens", [], "length"),
        ("max_tokens", [USE], "length"),
        ("model_context_window_exceeded", [], "length"),
        ("tool_use", [USE], "tool_calls"),
        ("refusal", [], "content_filter"),
        ("compaction", [], "stop"),
        (None, [USE], "tool_calls"),
        (None, [], "stop"),
    ],
)
def test_stop_reasons(stop_reason: str | None, content: Any, finish_reason: str) -> None:
    """Every stop reason has its finish reason, streamed and not; unknown ones are a stop."""
    assert (
        decode(stop_reason=stop_reason, content=content).choices[0].finish_reason == finish_reason
    )
    blocks = [start(0, **content[0])] if content else []
    last = [end(stop_reason)] if stop_reason else []
    assert folded(START, *blocks, *last, STOP).finish_reason == finish_reason


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, Usage(input_tokens=3, output_tokens=4)),
        (
            {
                "input_tokens": 3,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 2},
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 6},
            },
            Usage(
                input_tokens=3,
                cache_read_tokens=10,
                cache_write_tokens=5,
                cache_write_1h_tokens=2,
                output_tokens=3,
                reasoning_tokens=6,
            ),
        ),
        (
            {
                "input_tokens": 3,
                "output_tokens": 4,
                "iterations": [
                    {"type": "compaction", "input_tokens": 100, "output_tokens": 20},
                    {
                        "type": "message",
                        "input_tokens": 3,
                        "cache_creation_input_tokens": 8,
                        "cache_creation": {"ephemeral_1h_input_tokens": 8},
                        "output_tokens": 4,
                    },
                    {"type": "advisor_message", "input_tokens": 50, "output_tokens": 50},
                ],
            },
            Usage(input_tokens=103, cache_write_1h_tokens=8, output_tokens=24),
        ),
        (
            {
                "input_tokens": 3,
                "output_tokens": 4,
                "iterations": [{"type": "message", "input_tokens": 3, "output_tokens": 4}],
            },
            Usage(input_tokens=3, output_tokens=4),
        ),
    ],
)
def test_usage_buckets_do_not_overlap(wire: dict[str, Any], usage: Usage) -> None:
    """Input excludes both cache buckets, output excludes thinking, and compaction runs are counted in."""
    assert decode(usage=wire).usage == usage
    assert folded(START, end(**wire), STOP).usage == usage


def test_later_counts_replace_earlier_ones_field_by_field() -> None:
    """The last event may correct the input, or leave fields out; nothing is added up."""
    begin = json.loads(json.dumps(START))
    begin["message"]["usage"] = {
        "input_tokens": 43,
        "cache_read_input_tokens": 7,
        "output_tokens": 1,
    }
    corrected = folded(begin, end(input_tokens=61, output_tokens=5), STOP).usage
    assert corrected == Usage(input_tokens=61, cache_read_tokens=7, output_tokens=5)
    left_out = folded(begin, end(output_tokens=5, cache_read_input_tokens=None), STOP).usage
    assert left_out == Usage(input_tokens=43, cache_read_tokens=7, output_tokens=5)


def test_placeholder_of_the_start_counts_no_output() -> None:
    """A stream that is cut before its counts has those of the prompt; its output is left to be estimated."""
    items, _ = replay(START, delta(0, type="text_delta", text="Hi"), is_clean=False)
    (usage,) = [item for item in items if isinstance(item, Usage)]
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens == 0


def test_calls_are_numbered_by_themselves_and_empty_arguments_are_an_object() -> None:
    """Indexes count calls, not blocks; a call without arguments, or with those of its start, is whole."""
    message = folded(
        START,
        start(0, type="text", text="Hm"),
        stop(0),
        start(1, type="tool_use", id="a", name="f", input={}),
        {"type": "ping"},
        delta(1, type="input_json_delta", partial_json=""),
        stop(1),
        start(2, type="server_tool_use", id="s", name="web_search", input={}),
        delta(2, type="input_json_delta", partial_json='{"q":1}'),
        stop(2),
        start(3, type="tool_use", id="b", name="g", input={"x": 1}),
        stop(3),
        start(4, type="tool_use", id="c", name="h", input={}),
        end("tool_use"),
        STOP,
    ).choices()[0]
    assert message.finish_reason == "tool_calls"
    assert message.message["content"] == "Hm"
    calls = [(call["id"], call["function"]) for call in message.message["tool_calls"]]
    assert calls == [
        ("a", {"name": "f", "arguments": "{}"}),
        ("b", {"name": "g", "arguments": '{"x":1}'}),
        ("c", {"name": "h", "arguments": "{}"}),
    ]
    items, _ = replay(START, start(5, **USE), is_clean=False)
    assert [item.tool_calls[0].index for item in items if isinstance(item, ChoiceDelta)] == [0]


def test_json_tool_is_the_content() -> None:
    """Arguments of the tool that stands for a JSON format are the text, and the answer ends with stop."""
    use = {"type": "tool_use", "id": "t", "name": "respond_with_json", "input": {"a": [1]}}
    whole = decode(content=[use], stop_reason="tool_use").choices[0]
    assert (whole.message, whole.finish_reason) == (
        {"role": "assistant", "content": '{"a":[1]}'},
        "stop",
    )
    streamed = folded(
        START,
        start(0, type="tool_use", id="t", name="respond_with_json", input={}),
        delta(0, type="input_json_delta", partial_json='{"a":'),
        delta(0, type="input_json_delta", partial_json="[1]}"),
        stop(0),
        end("tool_use"),
        STOP,
    ).choices()[0]
    assert streamed == whole
    both = decode(content=[use, USE], stop_reason="tool_use").choices[0]
    assert both.finish_reason == "tool_calls"


def test_thinking_comes_as_text_and_as_blocks_to_send_back() -> None:
    """Pieces, signature, redacted and silent blocks add up to what the whole answer has."""
    content = [
        {"type": "thinking", "thinking": "One two", "signature": "s1"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "text", "text": "Done"},
    ]
    streamed = folded(
        START,
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="One"),
        delta(0, type="thinking_delta", thinking=" two"),
        delta(0, type="thinking_delta", thinking=""),
        delta(0, type="signature_delta", signature="s1"),
        stop(0),
        start(1, type="redacted_thinking", data="opaque"),
        stop(1),
        start(2, type="thinking", thinking="", signature=""),
        delta(2, type="signature_delta", signature="s2"),
        stop(2),
        start(3, type="text", text="Done"),
        end(),
        STOP,
    ).choices()[0]
    whole = decode(content=content, stop_reason="end_turn").choices[0]
    assert streamed == whole
    mark = {"format": "anthropic-claude-v1"}
    assert whole.message["reasoning"] == "One two"
    assert whole.message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "One two", "signature": "s1", **mark, "index": 0},
        {"type": "reasoning.encrypted", "data": "opaque", **mark, "index": 1},
        {"type": "reasoning.text", "text": "", "signature": "s2", **mark, "index": 2},
    ]


def test_blocks_that_the_start_already_holds_are_taken() -> None:
    """Some servers put whole blocks into the first event."""
    begin = json.loads(json.dumps(START))
    begin["message"]["content"] = [{"type": "text", "text": "Hi"}, USE]
    message = folded(begin, end("tool_use"), STOP).choices()[0].message
    assert message["content"] == "Hi"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}


def test_stream_is_tolerant_in_what_it_reads() -> None:
    """Unknown events and blocks are ignored; broken ones are counted, and the rest still arrives."""
    items, malformed = replay(
        START,
        {"type": "ping"},
        {"type": "news_of_later_days", "index": 3},
        start(0, type="hologram", data="x"),
        delta(0, type="hologram_delta", data="y"),
        b'{"type":"content_block_delta","index":1,"delta":{"type":"text_de',
        b"[1]",
        b'{"no_type":1}',
        {"type": "content_block_delta", "index": 1},
        delta(7, type="input_json_delta", partial_json="{}"),
        delta(1, type="text_delta", text="Hi"),
        b'  {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}   ',
        STOP,
        b"[DONE]",
    )
    whole = Accumulator()
    whole.add_all(items)
    assert malformed == 5
    assert whole.choices()[0].message["content"] == "Hi"
    assert items[-1] == StreamEnd()


def test_event_line_stands_in_for_a_missing_type() -> None:
    """The type in the data decides; without one, the name of the event."""
    decoder = AnthropicDialect().stream_decoder(Prompt(messages=[], parameters={}, stream=True))
    assert decoder.feed(SSEEvent("message_stop", b"{}"))[-1] == StreamEnd()


def test_end_without_message_stop_is_whole_only_after_a_stop_reason() -> None:
    """Bytes that end cleanly after the stop reason are an answer; before it, or in a cut, they are none."""
    text = delta(0, type="text_delta", text="Hi")
    assert replay(START, text, end())[0][-1] == StreamEnd()
    assert StreamEnd() not in replay(START, text, end(), is_clean=False)[0]
    assert StreamEnd() not in replay(START, text)[0]
    assert replay()[0] == []


@pytest.mark.parametrize("events", [(START, START), (START, end(), START)])
def test_second_answer_in_one_stream_is_an_error(events: tuple[Any, ...]) -> None:
    """Two answers are never spliced; after a whole one the second is not read."""
    items, _ = replay(*events, delta(0, type="text_delta", text="No"), STOP)
    failure = items[-1]
    assert isinstance(failure, StreamError)
    assert failure.failure.reason == Reason.ERROR_REASON_UPSTREAM_ERROR
    assert failure.failure.fall_back
    after_end, _ = replay(START, end(), STOP, START, delta(0, type="text_delta", text="No"))
    assert after_end[-1] == StreamEnd()


def test_error_event_ends_the_stream() -> None:
    """An error inside a 200 is mapped like one with a status, and nothing after it counts."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    items, _ = replay(START, delta(0, type="text_delta", text="Hi"), error, end(), STOP)
    failure = items[-1]
    assert isinstance(failure, StreamError)
    assert failure.failure.reason == Reason.ERROR_REASON_UPSTREAM_OVERLOADED
    assert failure.failure.retry
    assert failure.failure.fall_back


@pytest.mark.parametrize(
    ("status", "kind", "message", "reason", "fall_back"),
    [
        (400, "invalid_request_error", "max_tokens: too big", "UPSTREAM_REJECTED", False),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "CONTEXT_LENGTH_EXCEEDED",
            False,
        ),
        (401, "authentication_error", "invalid x-api-key", "UPSTREAM_AUTH", True),
        (403, "permission_error", "no", "UPSTREAM_AUTH", True),
        (404, "not_found_error", "model: claude-0", "MODEL_NOT_FOUND", True),
        (413, "request_too_large", "too large", "PAYLOAD_TOO_LARGE", False),
        (429, "rate_limit_error", "slow down", "UPSTREAM_RATE_LIMITED", True),
        (500, "api_error", "oops", "UPSTREAM_ERROR", True),
        (529, "overloaded_error", "Overloaded", "UPSTREAM_OVERLOADED", True),
    ],
)
def test_error_answers(status: int, kind: str, message: str, reason: str, fall_back: bool) -> None:
    """Statuses and types of the provider have their reasons; a 429 says when to come back."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    failure = AnthropicDialect().failure(status, {"retry-after": "7"}, body)
    assert failure.reason == Reason.Value(f"ERROR_REASON_{reason}")
    assert failure.fall_back == fall_back
    assert failure.http_status == status
    if status == 429:
        assert failure.retry_after_s == 7


@pytest.mark.parametrize(
    "body",
    [b"", b"<html></html>", b"{}", b"[]", b'{"type":"message","content":5}'],
)
def test_body_that_is_no_answer_is_a_failure(body: bytes) -> None:
    """An empty, foreign or broken 200 may be tried again elsewhere."""
    with pytest.raises(UpstreamFailure) as caught:
        AnthropicDialect().decode(body)
    assert caught.value.reason == Reason.ERROR_REASON_UPSTREAM_ERROR
    assert caught.value.fall_back


def test_error_inside_a_whole_answer_is_a_failure() -> None:
    """An error object with status 200 is no answer."""
    with pytest.raises(UpstreamFailure) as caught:
        AnthropicDialect().decode(
            b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'
        )
    assert caught.value.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED
