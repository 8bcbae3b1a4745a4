"""How streams on OpenAI's wire end, well or not: finish reasons, cuts, errors, nonsense; self-written."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.domain.chat import ChoiceDelta
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import StreamEnd, StreamError, StreamItem
from openai_chunks import DONE, chunk, event, only, run, whole


def failure_in(items: list[StreamItem]) -> Any:
    assert StreamEnd() not in items
    (error,) = [item for item in items if isinstance(item, StreamError)]
    return error.failure


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons_come_out_in_the_closed_set(given: str, expected: str) -> None:
    """Known reasons are mapped, unknown ones are a stop."""
    choice = only(chunk({"content": "x"}), chunk(finish=given), DONE)
    assert choice.finish_reason == expected


def test_empty_finish_reason_is_none() -> None:
    """Ollama's `finish_reason: ""` on every chunk ends nothing."""
    cut, _ = run(chunk({"content": "x"}, finish=""), chunk({"content": "y"}, finish=""))
    assert StreamEnd() not in cut
    choice = only(chunk({"content": "x"}, finish=""), chunk({"content": "y"}, finish="stop"))
    assert (choice.message["content"], choice.finish_reason) == ("xy", "stop")


def test_one_unfinished_choice_makes_the_stream_incomplete() -> None:
    """Without [DONE], every choice needs its finish reason."""
    items, _ = run(
        chunk({"content": "a"}, index=0),
        chunk({"content": "x"}, index=1),
        chunk(finish="stop", index=1),
    )
    assert StreamEnd() not in items


def test_finish_reason_may_come_twice() -> None:
    """OpenRouter repeats the finish reason; it goes out once."""
    items, _ = run(chunk({"content": "a"}), chunk(finish="stop"), chunk(finish="stop"), DONE)
    finished = [item for item in items if isinstance(item, ChoiceDelta) and item.finish_reason]
    assert len(finished) == 1


def test_text_after_the_finish_reason_is_not_lost() -> None:
    """A finish reason on a chunk too early still goes out after the last text."""
    items, _ = run(
        chunk({"content": "a"}, finish="stop"), chunk({"content": "b"}, finish="stop"), DONE
    )
    assert whole(items)[0].message["content"] == "ab"
    assert items[-2:] == [ChoiceDelta(finish_reason="stop"), StreamEnd()]


def test_second_stream_after_the_first_is_ignored() -> None:
    """Chunks of another id after the finish, and everything after [DONE], belong to no answer of ours."""
    choice = only(
        chunk({"content": "a"}), chunk(finish="stop"), chunk({"content": "b"}, id="c2"), DONE
    )
    assert choice.message["content"] == "a"
    choice = only(
        chunk({"content": "a"}), chunk(finish="stop"), DONE, chunk({"content": "b"}), DONE
    )
    assert choice.message["content"] == "a"


@pytest.mark.parametrize(
    ("pieces", "finish"),
    [
        ([chunk({"content": "a"}), chunk(finish="length")], "length"),
        ([chunk({"content": "a"}), DONE], "stop"),
        (
            [chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}), DONE],
            "tool_calls",
        ),
        ([chunk({"content": "a"}, finish="stop")[:-2]], "stop"),
        ([chunk({"content": "a"}), b"data: [DONE]"], "stop"),
    ],
    ids=["no-done", "no-finish", "no-finish-after-tools", "no-blank-line", "no-blank-line-done"],
)
def test_whole_answers_without_all_the_marks(pieces: list[bytes], finish: str) -> None:
    """Either all finish reasons or [DONE] after content make an answer whole."""
    assert only(*pieces).finish_reason == finish


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [DONE],
        [chunk({"role": "assistant", "content": ""}), DONE],
        [chunk({"content": "a"})],
        [chunk({"content": "a"}), b"data: [DON"],
        [chunk({"content": "a"}), chunk(finish="stop")[:-6]],
        [b"<!DOCTYPE html><html><body>Bad gateway</body></html>"],
    ],
    ids=["empty", "only-done", "only-role", "no-end", "cut-done", "cut-finish", "html"],
)
def test_streams_that_are_no_whole_answer_get_no_end(pieces: list[bytes]) -> None:
    """What is cut, empty or no stream at all never ends well, nor does a finish reason go out."""
    items, _ = run(*pieces)
    assert StreamEnd() not in items
    assert not any(item.finish_reason for item in items if isinstance(item, ChoiceDelta))


def test_malformed_chunk_is_skipped_and_counted() -> None:
    """One chunk of nonsense costs that chunk, not the answer."""
    items, decoder = run(
        chunk({"content": "a"}),
        b'data: {"choices": [{"delta": {"content": "los\n\n',
        b'data: {"choices": 7}\n\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        chunk({"content": "b"}),
        chunk(finish="stop"),
        DONE,
    )
    assert whole(items)[0].message["content"] == "ab"
    assert items[-1] == StreamEnd()
    assert decoder.malformed == 3


@pytest.mark.parametrize(
    ("pieces", "reason", "message"),
    [
        (
            [event({"error": {"message": "boom", "type": "server_error", "code": None}})],
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "boom",
        ),
        (
            [
                event(
                    {
                        "id": "g",
                        "error": {"code": 429, "message": "slow down"},
                        "choices": [
                            {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
                        ],
                    }
                ),
                DONE,
            ],
            Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED,
            "slow down",
        ),
        (
            [b'event: error\ndata: {"error":{"message":"bad call","code":"tool_use_failed"}}\n\n'],
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
            "bad call",
        ),
        ([event({"error": "model crashed"})], Reason.ERROR_REASON_UPSTREAM_ERROR, "model crashed"),
        (
            [
                event(
                    {
                        "object": "error",
                        "message": "no room",
                        "type": "BadRequestError",
                        "code": 400,
                    }
                )
            ],
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
            "no room",
        ),
        (
            [b'event: error\ndata: {"message":"no workers","code":503}\n\n'],
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
            "no workers",
        ),
        (
            [b"event: error\ndata: worker died\n\n"],
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "worker died",
        ),
        (
            [
                event(
                    {
                        "choices": [
                            {"index": 0, "delta": {}, "error": {"code": 502, "message": "gone"}}
                        ]
                    }
                )
            ],
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "gone",
        ),
        (
            [chunk(finish="insufficient_system_resource")],
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
            "insufficient_system_resource",
        ),
        ([chunk(finish="abort")], Reason.ERROR_REASON_UPSTREAM_ERROR, "abort"),
    ],
    ids=[
        "openai",
        "openrouter",
        "groq",
        "text",
        "vllm",
        "by-event-name",
        "bare-text",
        "in-choice",
        "deepseek-interrupted",
        "vllm-aborted",
    ],
)
def test_errors_inside_a_200_fail_the_stream(
    pieces: list[bytes], reason: Reason.ValueType, message: str
) -> None:
    """Every form of error after some text is an error, never an end, whatever follows it."""
    items, _ = run(chunk({"content": "partial"}), *pieces, chunk(finish="stop"), DONE)
    failure = failure_in(items)
    assert failure.reason == reason
    assert message in failure.message
    assert items[-1].__class__ is StreamError
