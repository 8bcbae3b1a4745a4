"""Answers of Bedrock's Converse API, whole and streamed: the same message, usage, finish reason and failures."""

from __future__ import annotations

import json
from typing import Any

import event_frames as frames
import pytest
from maniac_core.domain.chat import Answer, ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import Prompt, StreamEnd, StreamError, StreamItem, UpstreamFailure
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.translation.accumulator import Accumulator

CLAUDE, NOVA = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-pro-v1:0"
PROMPT = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
USAGE = {
    "inputTokens": 9,
    "outputTokens": 5,
    "totalTokens": 24,
    "cacheReadInputTokens": 4,
    "cacheWriteInputTokens": 6,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 2}, {"ttl": "5m", "inputTokens": 4}],
}
BLOCKS: list[dict[str, Any]] = [
    {"reasoningContent": {"reasoningText": {"text": "hm, hm", "signature": "s1"}}},
    {"reasoningContent": {"redactedContent": "eA=="}},
    {"text": "Grüß dich."},
    {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": [1, 2]}}},
    {"toolUse": {"toolUseId": "t2", "name": "g", "input": {}}},
]


def whole(blocks: list[dict[str, Any]], stop_reason: str, usage: Any = USAGE) -> bytes:
    message = {"role": "assistant", "content": blocks}
    answer = {"output": {"message": message}, "stopReason": stop_reason, "usage": usage}
    return json.dumps({**answer, "metrics": {"latencyMs": 7}}).encode()


def streamed(blocks: list[dict[str, Any]], stop_reason: str) -> list[bytes]:
    """Return the same answer as frames, with texts in two pieces."""
    made = [frames.event("messageStart", {"role": "assistant", "p": "abc"})]

    def delta(index: int, value: Any) -> None:
        made.append(frames.event("contentBlockDelta", {"contentBlockIndex": index, "delta": value}))

    for index, block in enumerate(blocks):
        if "text" in block:
            for piece in (block["text"][:3], block["text"][3:]):
                delta(index, {"text": piece})
        elif "toolUse" in block:
            use = block["toolUse"]
            start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
            made.append(
                frames.event("contentBlockStart", {"contentBlockIndex": index, "start": start})
            )
            if use["input"]:
                text = json.dumps(use["input"], separators=(",", ":"))
                for piece in (text[:2], text[2:]):
                    delta(index, {"toolUse": {"input": piece}})
        elif "redactedContent" in block["reasoningContent"]:
            delta(index, block)
        else:
            said = block["reasoningContent"]["reasoningText"]
            for piece in (said["text"][:2], said["text"][2:]):
                delta(index, {"reasoningContent": {"text": piece}})
            delta(index, {"reasoningContent": {"signature": said["signature"]}})
        made.append(frames.event("contentBlockStop", {"contentBlockIndex": index}))
    made.append(frames.event("messageStop", {"stopReason": stop_reason}))
    made.append(frames.event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}}))
    return made


def read(data: bytes, model: str = CLAUDE, size: int | None = None) -> list[StreamItem]:
    dialect = DIALECTS["bedrock"].of(model)
    framing, decoder = dialect.framing(), dialect.stream_decoder(PROMPT)
    items: list[StreamItem] = []
    size = size or len(data) or 1
    for start in range(0, len(data), size):
        for event in framing.feed(data[start : start + size]):
            items += decoder.feed(event)
    return [*items, *decoder.finish()]


def decode(data: bytes, model: str = CLAUDE) -> Answer:
    return DIALECTS["bedrock"].of(model).decode(data)


@pytest.mark.parametrize(
    ("model", "format_"), [(CLAUDE, "anthropic-claude-v1"), (NOVA, "aws-bedrock-v1")]
)
def test_a_whole_answer(model: str, format_: str) -> None:
    """Thinking carries the format of who can read it; counts are in buckets that do not overlap."""
    answer = decode(whole(BLOCKS, "tool_use"), model)
    [choice] = answer.choices
    assert choice.message["content"] == "Grüß dich."
    assert choice.message["reasoning"] == "hm, hm"
    assert choice.message["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "hm, hm",
            "signature": "s1",
            "format": format_,
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "eA==", "format": "aws-bedrock-v1", "index": 1},
    ]
    calls = choice.message["tool_calls"]
    assert [(call["id"], call["function"]) for call in calls] == [
        ("t1", {"name": "f", "arguments": '{"a":[1,2]}'}),
        ("t2", {"name": "g", "arguments": "{}"}),
    ]
    assert (choice.finish_reason, choice.ending.reason if choice.ending else "") == (
        "tool_calls",
        "tool_use",
    )
    assert answer.usage == Usage(
        input_tokens=9,
        cache_read_tokens=4,
        cache_write_tokens=4,
        cache_write_1h_tokens=2,
        output_tokens=5,
    )


@pytest.mark.parametrize("size", [1, 5, 77, None])
@pytest.mark.parametrize("model", [CLAUDE, NOVA])
def test_a_stream_adds_up_to_the_whole_answer(model: str, size: int | None) -> None:
    """However its bytes are split."""
    items = read(b"".join(streamed(BLOCKS, "tool_use")), model, size)
    folded = Accumulator()
    folded.add_all(items)
    answer = decode(whole(BLOCKS, "tool_use"), model)
    [choice] = folded.choices()
    assert choice.message == answer.choices[0].message
    assert (choice.finish_reason, choice.ending) == ("tool_calls", answer.choices[0].ending)
    assert folded.usage == answer.usage
    assert isinstance(items[-1], StreamEnd)


@pytest.mark.parametrize("count", range(len(streamed(BLOCKS, "tool_use"))))
def test_a_cut_stream_never_looks_whole(count: int) -> None:
    """Before its end it has no finish reason; without the counts at the end it is whole all the same."""
    made = streamed(BLOCKS, "tool_use")
    items = read(b"".join(made[:count]))
    is_whole = count == len(made) - 1
    assert any(isinstance(item, StreamEnd) for item in items) == is_whole
    finishes = [item for item in items if isinstance(item, ChoiceDelta) and item.finish_reason]
    assert bool(finishes) == is_whole


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("of_later_days", "stop"),
    ],
)
def test_stop_reasons(stop_reason: str, finish_reason: str) -> None:
    """Whole and streamed."""
    blocks = [{"text": "Hi there"}]
    assert decode(whole(blocks, stop_reason)).choices[0].finish_reason == finish_reason
    folded = Accumulator()
    folded.add_all(read(b"".join(streamed(blocks, stop_reason))))
    assert folded.finish_reason == finish_reason


@pytest.mark.parametrize("stop_reason", ["malformed_model_output", "malformed_tool_use"])
def test_what_is_no_answer_is_a_failure(stop_reason: str) -> None:
    """Which is tried again, and billed all the same."""
    blocks = [{"text": "Hi there"}]
    with pytest.raises(UpstreamFailure) as refused:
        decode(whole(blocks, stop_reason))
    assert refused.value.retry
    assert refused.value.usage is not None
    last = read(b"".join(streamed(blocks, stop_reason)))[-1]
    assert isinstance(last, StreamError)
    assert last.failure.retry


def test_json_by_a_tool_is_content() -> None:
    """And the answer ends with stop."""
    blocks = [{"toolUse": {"toolUseId": "t", "name": "respond_with_json", "input": {"a": 1}}}]
    [choice] = decode(whole(blocks, "tool_use")).choices
    assert (choice.message["content"], choice.finish_reason) == ('{"a":1}', "stop")
    folded = Accumulator()
    folded.add_all(read(b"".join(streamed(blocks, "tool_use"))))
    assert folded.choices()[0].message == choice.message
    assert folded.finish_reason == "stop"


@pytest.mark.parametrize(
    ("frame", "reason", "retry"),
    [
        (
            frames.exception("throttlingException", {"message": "Too many tokens"}),
            Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED,
            True,
        ),
        (
            frames.exception("validationException", {"message": "Bad input"}),
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
            False,
        ),
        (
            frames.exception("modelStreamErrorException", {"originalMessage": "It broke"}),
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            True,
        ),
        (
            frames.exception("internalServerException", {}),
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            True,
        ),
        (
            frames.exception("serviceUnavailableException", {"message": "Later"}),
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
            True,
        ),
        (frames.error("InternalFailure", "It broke"), Reason.ERROR_REASON_UPSTREAM_ERROR, True),
    ],
)
def test_an_exception_in_the_stream_ends_it(
    frame: bytes, reason: Reason.ValueType, *, retry: bool
) -> None:
    """As the same error would as an answer; what came before it was given out."""
    items = read(
        streamed([{"text": "Hi there"}], "end_turn")[1] + frame + b"".join(streamed([], ""))
    )
    assert isinstance(items[0], ChoiceDelta)
    [last] = items[1:]
    assert isinstance(last, StreamError)
    assert (last.failure.reason, last.failure.retry) == (reason, retry)


@pytest.mark.parametrize(
    ("status", "name", "body", "reason"),
    [
        (429, "ThrottlingException", b"", Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED),
        (400, "ServiceQuotaExceededException", b"", Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED),
        (424, "ModelErrorException", b"", Reason.ERROR_REASON_UPSTREAM_ERROR),
        (429, "ModelNotReadyException", b"", Reason.ERROR_REASON_UPSTREAM_OVERLOADED),
        (408, "ModelTimeoutException", b"", Reason.ERROR_REASON_UPSTREAM_TIMEOUT),
        (
            400,
            "ValidationException:http://internal.amazon.com/",
            b'{"message": "The provided model identifier is invalid."}',
            Reason.ERROR_REASON_MODEL_NOT_FOUND,
        ),
        (
            400,
            "ValidationException",
            b'{"message": "Input is too long for requested model."}',
            Reason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
        ),
        (
            400,
            "ValidationException",
            b'{"message": "tool_choice is wrong"}',
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
        ),
        (
            403,
            "AccessDeniedException",
            b'{"message": "You don\'t have access to the model with the specified model ID."}',
            Reason.ERROR_REASON_MODEL_NOT_FOUND,
        ),
        (
            403,
            "UnrecognizedClientException",
            b'{"message": "The security token included in the request is invalid."}',
            Reason.ERROR_REASON_UPSTREAM_AUTH,
        ),
        (403, "", b'{"Message": "Not authorized"}', Reason.ERROR_REASON_UPSTREAM_AUTH),
        (503, "", b"<html>", Reason.ERROR_REASON_UPSTREAM_OVERLOADED),
        (500, "InternalServerException", b"no JSON", Reason.ERROR_REASON_UPSTREAM_ERROR),
    ],
)
def test_errors_are_those_of_others(
    status: int, name: str, body: bytes, reason: Reason.ValueType
) -> None:
    """By the name in the header, and what the text says of the model."""
    failure = DIALECTS["bedrock"].failure(status, {"x-amzn-errortype": name} if name else {}, body)
    assert failure.reason == reason
    assert failure.http_status == status


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"output": {"message": 7}}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """Whatever else it is."""
    with pytest.raises(UpstreamFailure):
        decode(body)
