"""Answers of OpenAI's Responses: items, finish reasons, usage, streams with faults, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cuts import offsets
from maniac_core.domain.chat import Answer, ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import (
    Prompt,
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.openai_responses.dialect import RESPONSES
from maniac_core.providers.openai_responses.items import reasoning_items
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEDecoder
from responses_exchange import (
    CALL,
    CUSTOM,
    ITEMS,
    MESSAGE,
    REASONING,
    events,
    response,
    sse,
)

PROMPT = Prompt(messages=[], parameters={}, stream=True)
STREAM = sse(*events(*ITEMS))


def decode(*items: Any, **keys: Any) -> Answer:
    return RESPONSES.decode(json.dumps(response(*items, **keys)).encode())


def replay(*pieces: bytes, is_clean: bool = True) -> tuple[list[StreamItem], int]:
    """Return the items of a stream, and how many events made no sense."""
    framing, decoder = SSEDecoder(), RESPONSES.stream_decoder(PROMPT)
    items: list[StreamItem] = []
    for piece in pieces:
        for event in framing.feed(piece):
            items += decoder.feed(event)
    if is_clean:
        for event in framing.finish():
            items += decoder.feed(event)
        items += decoder.finish()
    return items, decoder.malformed


def folded(*pieces: bytes) -> Accumulator:
    whole = Accumulator()
    whole.add_all(replay(*pieces)[0])
    return whole


def failure_in(*pieces: bytes) -> UpstreamFailure:
    last = replay(*pieces)[0][-1]
    assert isinstance(last, StreamError)
    return last.failure


def test_an_answer_has_chats_form() -> None:
    """Text, reasoning, calls, citations, counts; tools that ran at the provider are left out."""
    answer = decode(*ITEMS)
    (choice,) = answer.choices

    assert answer.upstream_model == "gpt-x-2026"
    assert answer.usage == Usage(
        input_tokens=12, cache_read_tokens=8, output_tokens=7, reasoning_tokens=5
    )
    assert choice.finish_reason == "tool_calls"
    assert choice.blocks == ()
    assert choice.message == {
        "role": "assistant",
        "content": "Let me look: é😀.",
        "reasoning": "**Weather**\n\nIt is a question.",
        "reasoning_details": [
            {
                "type": "reasoning.summary",
                "summary": "**Weather**\n\nIt is a question.",
                "id": "rs_1",
                "format": "openai-responses-v1",
                "index": 0,
            },
            {
                "type": "reasoning.encrypted",
                "data": "gAAA-opaque",
                "id": "rs_1",
                "format": "openai-responses-v1",
                "index": 1,
            },
        ],
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
            },
            {
                "id": "call_2",
                "type": "function",
                "function": {"name": "shell", "arguments": '{"input":"echo \\"é\\"\\nls"}'},
            },
        ],
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {
                    "url": "https://a.example",
                    "title": "A",
                    "start_index": 0,
                    "end_index": 3,
                },
            }
        ],
    }


def test_a_stream_adds_up_to_the_whole_answer() -> None:
    """Message, finish reason and counts are those of the same answer when it comes whole."""
    items, malformed = replay(STREAM)
    streamed, whole = folded(STREAM), decode(*ITEMS)

    assert malformed == 0
    assert items[0] == StreamModel(name="gpt-x-2026")
    assert items[-1] == StreamEnd()
    assert streamed.usage == whole.usage
    assert streamed.choices()[0].message == whole.choices[0].message
    assert streamed.choices()[0].finish_reason == whole.choices[0].finish_reason
    assert streamed.choices()[0].ending == whole.choices[0].ending


def test_the_order_of_parts_is_told() -> None:
    """Where it is not the usual one."""
    answer = decode(CALL, MESSAGE, REASONING)
    text = MESSAGE["content"][0]["text"]
    assert answer.choices[0].blocks == (
        ("tool_call", 1),
        ("text", len(text)),
        ("reasoning", len("**Weather**\n\nIt is a question.")),
    )


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_splitting_the_bytes_changes_nothing(line_end: bytes) -> None:
    """Wherever they are parted, inside of characters as well."""
    body = STREAM.replace(b"\n", line_end)
    whole = replay(body)
    for at in offsets(body):
        assert replay(body[:at], body[at:]) == whole


def test_a_cut_is_never_whole() -> None:
    """Up to the last event no end is told and no finish reason, also if the bytes end cleanly."""
    last = STREAM.rindex(b"event: response.completed")
    end = len(STREAM.rstrip()) - 1
    for at in offsets(STREAM):
        items, _ = replay(STREAM[:at])
        is_whole = StreamEnd() in items
        assert not is_whole or at > end > last
        if not is_whole:
            assert not any(isinstance(i, ChoiceDelta) and i.finish_reason for i in items)


def test_reasoning_goes_back_as_the_items_it_came_in() -> None:
    """From a whole answer, from the pieces of a stream, and from two items in one answer."""
    second = {**REASONING, "id": "rs_2", "summary": [], "encrypted_content": "second"}
    joined = {"type": "summary_text", "text": "**Weather**\n\nIt is a question."}
    expected = [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [joined],
            "encrypted_content": "gAAA-opaque",
        },
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "second"},
    ]
    items = (REASONING, second, MESSAGE)
    whole = decode(*items).choices[0].message["reasoning_details"]
    pieces = [
        detail
        for item in replay(sse(*events(*items)))[0]
        if isinstance(item, ChoiceDelta)
        for detail in item.reasoning_details or ()
    ]
    assert reasoning_items(whole) == reasoning_items(pieces) == expected


def test_open_reasoning_goes_back_with_its_text() -> None:
    """As servers of open models send it, without anything encrypted."""
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    message = decode(item, MESSAGE).choices[0].message
    assert message["reasoning"] == "Hm."
    assert reasoning_items(message["reasoning_details"]) == [item]


@pytest.mark.parametrize(
    ("keys", "items", "finish", "ending"),
    [
        ({}, [MESSAGE], "stop", "completed"),
        ({}, [MESSAGE, CALL], "tool_calls", "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            [MESSAGE, CALL],
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            [MESSAGE],
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": None}, [], "length", "incomplete"),
    ],
)
def test_finish_reasons(keys: Any, items: list[Any], finish: str, ending: str) -> None:
    """By status and reason, whole and streamed."""
    whole = decode(*items, **keys).choices[0]
    streamed = folded(sse(*events(*items, last=response(*items, **keys)))).choices()[0]
    for choice in (whole, streamed):
        assert choice.ending is not None
        assert (choice.finish_reason, choice.ending.reason) == (finish, ending)


def test_a_refusal_is_one() -> None:
    """It is no content."""
    item = {**MESSAGE, "content": [{"type": "refusal", "refusal": "I will not."}]}
    for message in (
        decode(item).choices[0].message,
        folded(sse(*events(item))).choices()[0].message,
    ):
        assert (message["content"], message["refusal"]) == (None, "I will not.")


def test_what_a_stream_lost_or_left_out_comes_with_the_whole_items() -> None:
    """Deltas that got lost, items without deltas, and items that only the last event has."""
    expected = decode(*ITEMS).choices[0].message
    everything = events(*ITEMS)
    deltas = [event for event in everything if event["type"].endswith(".delta")]
    for lost in deltas[1::2]:
        assert (
            folded(sse(*(e for e in everything if e is not lost))).choices()[0].message == expected
        )
    no_deltas = [event for event in everything if event not in deltas]
    assert folded(sse(*no_deltas)).choices()[0].message == expected
    assert folded(sse(everything[0], everything[-1])).choices()[0].message == expected
    empty = {**everything[-1], "response": {**everything[-1]["response"], "output": []}}
    assert folded(sse(*everything[:-1], empty)).choices()[0].message == expected


def test_calls_without_arguments_are_an_object() -> None:
    """Also if nothing ended them."""
    call = {**CALL, "arguments": ""}
    begun = events(call)
    unended = [*begun[:3], {"type": "response.completed", "response": response()}]
    for choice in (
        decode(call).choices[0],
        folded(sse(*begun)).choices()[0],
        folded(sse(*unended)).choices()[0],
    ):
        assert choice.message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_stream_is_tolerant_in_what_it_reads() -> None:
    """Unknown events, missing event lines, keep-alives and a second end are ignored; broken events are counted."""
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events(MESSAGE)]
    odd = b": keep\n\n" + b'data: {"type":"keepalive"}\n\n' + b"data: {half\n\n" + b"data: [1]\n\n"
    odd += b'data: {"type":"response.hologram.delta","delta":{"x":1}}\n\n'
    items, malformed = replay(lines[0], odd, *lines[1:], b"data: [DONE]\n\n", *lines)
    whole = Accumulator()
    whole.add_all(items)

    assert malformed == 2
    assert whole.choices()[0].message["content"] == MESSAGE["content"][0]["text"]
    assert items[-1] == StreamEnd()


@pytest.mark.parametrize(
    ("error", "reason", "retry", "fall_back"),
    [
        ({"code": "server_error", "message": "Oh."}, "UPSTREAM_ERROR", True, True),
        ({"code": "rate_limit_exceeded", "message": "Slow."}, "UPSTREAM_RATE_LIMITED", True, True),
        ({"code": "insufficient_quota", "message": "No."}, "UPSTREAM_RATE_LIMITED", False, True),
        ({"code": "server_is_overloaded", "message": "."}, "UPSTREAM_OVERLOADED", True, True),
        ({"code": "invalid_image", "message": "Odd."}, "UPSTREAM_REJECTED", False, False),
        ({"code": "invalid_prompt", "message": "."}, "CONTENT_POLICY_VIOLATION", False, False),
        (
            {"code": "context_length_exceeded", "message": "Long."},
            "CONTEXT_LENGTH_EXCEEDED",
            False,
            False,
        ),
    ],
)
def test_errors_have_their_classes(error: Any, reason: str, retry: bool, fall_back: bool) -> None:
    """As the last response of a stream, as an event in both of its forms, and inside a whole answer."""
    failed = response(status="failed", error=error)
    begun = sse(*events(MESSAGE)[:4])
    with pytest.raises(UpstreamFailure) as caught:
        decode(status="failed", error=error)
    for failure in (
        caught.value,
        failure_in(begun, sse({"type": "response.failed", "response": failed})),
        failure_in(begun, sse({"type": "error", **error, "param": None})),
        failure_in(begun, sse({"type": "error", "error": {"type": "x", **error}})),
    ):
        assert failure.reason == Reason.Value(f"ERROR_REASON_{reason}")
        assert (failure.retry, failure.fall_back) == (retry, fall_back)


@pytest.mark.parametrize("status", ["failed", "cancelled", "in_progress", "queued", "odd"])
def test_a_response_that_is_not_complete_is_no_answer(status: str) -> None:
    """Whatever it holds; what the provider counted is kept."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    with pytest.raises(UpstreamFailure) as caught:
        decode(MESSAGE, status=status, usage=usage)
    assert caught.value.retry
    assert caught.value.usage == Usage(input_tokens=3, output_tokens=1)


def test_a_second_answer_in_one_stream_is_an_error() -> None:
    """Two answers are never spliced."""
    begun = sse(*events(MESSAGE)[:4])
    assert failure_in(begun, begun).reason == Reason.ERROR_REASON_UPSTREAM_ERROR


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"object":"chat.completion","choices":[]}', b"{"]
)
def test_what_is_no_response_is_refused(body: bytes) -> None:
    """It may be tried again."""
    with pytest.raises(UpstreamFailure) as caught:
        RESPONSES.decode(body)
    assert caught.value.retry


def test_custom_calls_stream_as_the_json_that_functions_have() -> None:
    """Piece by piece, with quotes and line ends in it."""
    message = folded(sse(*events(CUSTOM))).choices()[0].message
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"input": CUSTOM["input"]}
