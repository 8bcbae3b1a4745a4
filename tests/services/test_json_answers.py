"""Answers as the core makes them for clients: JSON and events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.domain.chat import Choice, ChoiceDelta, Chunk, Completion, ToolCallDelta, Usage
from maniac_core.rpc.chat.json_answer import ChunkEncoder, completion_to_json

USAGE = Usage(input_tokens=2, cache_read_tokens=3, output_tokens=5, reasoning_tokens=2)
USAGE_JSON = {
    "prompt_tokens": 5,
    "completion_tokens": 7,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
IDENTITY: dict[str, Any] = {
    "id": "c",
    "created": 7,
    "model": "m",
    "provider": "p",
    "container": None,
}


def whole(message: dict[str, Any], **fields: Any) -> Any:
    """Return the JSON of an answer with one message."""
    choice = Choice(index=0, message=message, finish_reason="stop")
    completion = Completion(**{**IDENTITY, "choices": [choice], "usage": USAGE, **fields})
    return json.loads(completion_to_json(completion))


def events(encoder: ChunkEncoder, *deltas: ChoiceDelta, usage: Usage | None = None) -> list[Any]:
    """Return the events of chunks that are ready together, checking their framing."""
    chunks = [Chunk(**IDENTITY, choices=(delta,)) for delta in deltas]
    if usage is not None:
        chunks.append(Chunk(**IDENTITY, usage=usage))
    data = encoder.events(chunks)
    if not data:
        return []
    assert data.endswith(b"\n\n")
    frames = data[:-2].split(b"\n\n")
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames]


def test_a_whole_answer_has_the_closed_shape() -> None:
    """A completion has the keys of the contract, in their order, and no others."""
    answer = whole({"role": "assistant", "content": "Hello."})

    assert answer == {
        "id": "c",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "provider": "p",
        "container": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello."},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": USAGE_JSON,
    }
    assert list(answer) == [
        *("id", "object", "created", "model", "provider", "container", "choices", "usage")
    ]


def test_a_message_shows_all_that_the_model_gave() -> None:
    """Calls, reasoning, refusal and further keys are in the message; content that is absent is null."""
    message = {
        "role": "assistant",
        "reasoning": "why",
        "reasoning_details": [{"type": "reasoning.text"}],
        "refusal": "no",
        "annotations": msgspec.Raw(b"[1.0]"),
        "tool_calls": [
            {
                "id": "c",
                "index": 0,
                "type": "function",
                "function": {"name": "f", "arguments": "{"},
                "extra_content": 1,
            }
        ],
    }
    answer = whole(message, container="support")

    assert answer["container"] == "support"
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "reasoning": "why",
        "reasoning_content": "why",
        "reasoning_details": [{"type": "reasoning.text"}],
        "refusal": "no",
        "annotations": [1],
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "f", "arguments": "{"},
                "extra_content": 1,
            }
        ],
    }


def test_content_of_parts_has_their_keys() -> None:
    """A part shows its type, what it holds and its further keys."""
    parts = [
        {"text": "t", "cache_control": {"a": 1}},
        {"type": "image_url", "image_url": {"url": "u", "detail": None}},
        {"type": "file", "file": {"file_id": "f", "filename": None}},
    ]
    answer = whole({"role": "assistant", "content": parts})

    assert answer["choices"][0]["message"]["content"] == [
        {"cache_control": {"a": 1}, "type": "text", "text": "t"},
        {"type": "image_url", "image_url": {"url": "u"}},
        {"type": "file", "file": {"file_id": "f"}},
    ]


def test_usage_shows_what_was_reported() -> None:
    """Written cache tokens and audio have keys of their own where there are any."""
    usage = Usage(
        input_tokens=1,
        cache_write_tokens=2,
        cache_write_1h_tokens=3,
        output_tokens=4,
        input_audio_tokens=0,
        output_audio_tokens=5,
    )

    assert whole({"role": "assistant", "content": ""}, usage=usage)["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 5, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 5},
    }


def step(delta: dict[str, Any], finish_reason: str | None = None, index: int = 0) -> Any:
    """Return a chunk of a stream without the usage key."""
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return {**IDENTITY, "object": "chat.completion.chunk", "choices": [choice]}


DELTAS: list[tuple[ChoiceDelta, Any]] = [
    (ChoiceDelta(role="assistant", content=""), step({"role": "assistant", "content": ""})),
    (ChoiceDelta(content="Hello"), step({"content": "Hello"})),
    (ChoiceDelta(content=""), step({"content": ""})),
    (ChoiceDelta(index=1, content="Hello"), step({"content": "Hello"}, index=1)),
    (ChoiceDelta(content=".", finish_reason="stop"), step({"content": "."}, "stop")),
    (ChoiceDelta(finish_reason="tool_calls"), step({}, "tool_calls")),
    (
        ChoiceDelta(reasoning="r", reasoning_details=[{}], refusal="no"),
        step(
            {
                "reasoning": "r",
                "reasoning_content": "r",
                "reasoning_details": [{}],
                "refusal": "no",
            }
        ),
    ),
    (
        ChoiceDelta(extra={"annotations": [1], "other": 2}),
        step({"annotations": [1]}),
    ),
    (
        ChoiceDelta(
            tool_calls=(
                ToolCallDelta(index=0, id="c", name="f", extra={"extra_content": {"a": 1}}),
            )
        ),
        step(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                        "extra_content": {"a": 1},
                    }
                ]
            }
        ),
    ),
    (
        ChoiceDelta(tool_calls=(ToolCallDelta(index=0, arguments='{"a"'),)),
        step({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
    ),
]


@pytest.mark.parametrize(("delta", "expected"), DELTAS)
def test_a_delta_shows_what_it_adds(delta: ChoiceDelta, expected: Any) -> None:
    """The first piece of a call names it, all pieces carry its index; with usage asked for there is its key."""
    assert events(ChunkEncoder(include_usage=False), delta) == [expected]
    assert events(ChunkEncoder(include_usage=True), delta) == [{**expected, "usage": None}]


def test_a_stream_ends_with_usage_when_asked() -> None:
    """A last event without choices has the numbers, also where it is ready with others."""
    encoder = ChunkEncoder(include_usage=True)
    text = ChoiceDelta(content="x")

    assert len(events(encoder, text)) == 1
    assert events(encoder, text, usage=USAGE)[1] == {
        **step({}),
        "choices": [],
        "usage": USAGE_JSON,
    }


def test_usage_that_nobody_asked_for_is_left_out() -> None:
    """Without it a step that has nothing but usage is nothing."""
    assert events(ChunkEncoder(include_usage=False), usage=USAGE) == []
