"""Folding the steps of a stream into the whole answer."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.domain.chat import ChoiceDelta, ToolCallDelta, Usage
from maniac_core.providers.base import StreamEnd, StreamModel
from maniac_core.providers.translation.accumulator import Accumulator


def folded(*items: Any) -> Accumulator:
    accumulator = Accumulator()
    accumulator.add_all(items)
    return accumulator


def message_of(*items: Any) -> dict[str, Any]:
    (choice,) = folded(*items).choices()
    return choice.message


def test_nothing_is_no_choice() -> None:
    """Before the first delta there is no answer, no usage and no length."""
    empty = folded(StreamModel(name="m"), StreamEnd())
    assert (empty.choices(), empty.usage, empty.finish_reason, empty.text_length) == (
        [],
        None,
        None,
        0,
    )


def test_pieces_of_every_kind_add_up() -> None:
    """Content, reasoning, refusal and tool arguments are joined in order; the length counts them all."""
    whole = folded(
        ChoiceDelta(role="assistant"),
        ChoiceDelta(reasoning="th"),
        ChoiceDelta(reasoning="ink"),
        ChoiceDelta(content="a"),
        ChoiceDelta(content="b", refusal="no"),
        ChoiceDelta(tool_calls=(ToolCallDelta(index=1, id="c2", name="g", arguments="{}"),)),
        ChoiceDelta(tool_calls=(ToolCallDelta(index=0, id="c1", name="f", arguments='{"x"'),)),
        ChoiceDelta(tool_calls=(ToolCallDelta(index=0, arguments=":1}", extra={"k": 1}),)),
        ChoiceDelta(finish_reason="tool_calls"),
    )
    (choice,) = whole.choices()
    assert choice.message == {
        "role": "assistant",
        "content": "ab",
        "reasoning": "think",
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"x":1}'},
                "k": 1,
            },
            {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
        "refusal": "no",
    }
    assert choice.finish_reason == whole.finish_reason == "tool_calls"
    assert whole.text_length == len("thinkabno") + len('{"x":1}{}')


@pytest.mark.parametrize(
    ("data", "joined"),
    [(["YQ==", "Yg=="], "YWI="), (["AQID", "BAUG"], "AQIDBAUG"), (["Y", "Q=="], "YQ==")],
)
def test_annotations_audio_and_images_add_up(data: list[str], joined: str) -> None:
    """Lists are chained; of audio the transcript is joined, and the sound, whose pieces are encoded each by itself."""
    message = message_of(
        ChoiceDelta(extra={"audio": {"id": "a", "transcript": "Hel"}, "images": [{"n": 1}]}),
        ChoiceDelta(extra={"audio": {"data": data[0], "transcript": "lo"}}),
        ChoiceDelta(content="x", extra={"annotations": [{"n": 2}]}),
        ChoiceDelta(extra={"annotations": [{"n": 3}]}),
        ChoiceDelta(extra={"audio": {"data": data[1], "expires_at": 5}}),
    )
    audio = {"id": "a", "transcript": "Hello", "data": joined, "expires_at": 5}
    assert message == {
        "role": "assistant",
        "content": "x",
        "audio": audio,
        "images": [{"n": 1}],
        "annotations": [{"n": 2}, {"n": 3}],
    }


def test_message_without_text_has_null_content() -> None:
    """As on OpenAI's wire, content is there even when it is null."""
    assert message_of(ChoiceDelta(role="assistant")) == {"role": "assistant", "content": None}


def test_choices_are_kept_apart_and_in_order() -> None:
    """Interleaved choices come out by index, the finish reason is that of the first."""
    whole = folded(
        ChoiceDelta(index=1, content="x"),
        ChoiceDelta(index=0, content="a"),
        ChoiceDelta(index=1, content="y", finish_reason="length"),
        ChoiceDelta(index=0, finish_reason="stop"),
    )
    assert [(choice.index, choice.message["content"]) for choice in whole.choices()] == [
        (0, "a"),
        (1, "xy"),
    ]
    assert whole.finish_reason == "stop"


def test_last_usage_stands() -> None:
    """A later report replaces an earlier one."""
    assert folded(Usage(output_tokens=1), Usage(output_tokens=2)).usage == Usage(output_tokens=2)


def test_what_there_is_can_be_asked_for_midway() -> None:
    """The answer so far can be read at any time, and goes on growing."""
    whole = folded(ChoiceDelta(content="a"))
    assert whole.choices()[0].message["content"] == "a"
    assert whole.choices()[0].finish_reason is None
    whole.add_delta(ChoiceDelta(content="b"))
    assert whole.choices()[0].message["content"] == "ab"


TEXT = "reasoning.text"


@pytest.mark.parametrize(
    ("pieces", "blocks"),
    [
        (
            [
                {"type": TEXT, "text": "a", "index": 0, "format": "f", "signature": None},
                {"type": TEXT, "text": "b", "index": 0},
                {"type": TEXT, "signature": "s", "index": 0},
                {"type": TEXT, "text": "c", "index": 1},
            ],
            [
                {"type": TEXT, "text": "ab", "index": 0, "format": "f", "signature": "s"},
                {"type": TEXT, "text": "c", "index": 1},
            ],
        ),
        (
            [
                {"type": "reasoning.summary", "summary": "a", "index": 0},
                {"type": "reasoning.encrypted", "data": "e1", "index": 0},
                {"type": "reasoning.summary", "summary": "b", "index": 0},
                {"type": "reasoning.encrypted", "data": "e2", "index": 0},
            ],
            [
                {"type": "reasoning.summary", "summary": "ab", "index": 0},
                {"type": "reasoning.encrypted", "data": "e1", "index": 0},
                {"type": "reasoning.encrypted", "data": "e2", "index": 0},
            ],
        ),
        (
            [
                {"type": TEXT, "text": "a"},
                {"type": TEXT, "text": "b", "signature": "s1"},
                {"type": TEXT, "text": "c"},
            ],
            [
                {"type": TEXT, "text": "ab", "signature": "s1"},
                {"type": TEXT, "text": "c"},
            ],
        ),
    ],
    ids=["by-index", "types-apart", "without-index"],
)
def test_reasoning_blocks_are_put_together(
    pieces: list[dict[str, Any]], blocks: list[dict[str, Any]]
) -> None:
    """Pieces of one block join, a signature lands in its block, encrypted blocks stay apart."""
    deltas = [ChoiceDelta(reasoning_details=[piece]) for piece in pieces]
    assert message_of(*deltas)["reasoning_details"] == blocks
