"""What is written of a message: the same blocks however their text is cut, streamed as whole, in the package's own form."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from maniac_edge.errors import EdgeError
from maniac_edge.wires.messages.answer import MessagesWriter
from messages_events import added_up, events_in

HEAD = {"id": "msg_1", "created": 1, "model": "a/b", "provider": "a", "container": None}
_event: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(RawMessageStreamEvent)

texts = st.text(min_size=1, max_size=12)
seals = st.one_of(st.none(), st.just("mgs1.x"))
inputs = st.dictionaries(texts, texts, max_size=2).map(json.dumps)
blocks = st.one_of(
    st.tuples(st.just("text"), texts, st.none()),
    st.tuples(st.just("tool_call"), inputs, seals),
)
answers = st.tuples(st.one_of(st.none(), st.tuples(texts, seals)), st.lists(blocks, max_size=5))
counts = st.integers(0, 1000)


def chunk(delta: dict[str, Any] | None = None, **more: Any) -> bytes:
    """Return an event in chat's form."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    return b"data: %b\n\n" % json.dumps({**HEAD, "choices": choices, **more}).encode()


def ending(usage: dict[str, Any], **step: Any) -> list[bytes]:
    """Return the last events in chat's form."""
    return [chunk(choices=[{"index": 0, "delta": {}, **step}]), chunk(usage=usage)]


def usage_of(plain: int = 1, read: int = 0, written: int = 0, output: int = 1) -> dict[str, Any]:
    """Return counts in chat's form, where the cached tokens are among the prompt's."""
    details = {"cached_tokens": read, "cache_write_tokens": written}
    total = plain + read + written
    return {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": details,
    }


def steps(answer: Any, size: int) -> list[bytes]:
    """Return the events for an answer whose texts come in pieces of a size."""
    thoughts, parts = answer
    made = [chunk({"role": "assistant", "content": ""})]
    if thoughts is not None:
        text, seal = thoughts
        made += [chunk({"reasoning": piece}) for piece in cut(text, size)]
        if seal:
            made.append(chunk({"seals": [seal]}))
    index = 0
    for kind, text, seal in parts:
        if kind == "text":
            made += [chunk({"content": piece}) for piece in cut(text, size)]
            continue
        start = {"index": index, "id": f"call_{index}", "seal": seal}
        made.append(chunk({"tool_calls": [{**start, "function": {"name": "f"}}]}))
        made += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in cut(text, size)
        ]
        index += 1
    return made


def cut(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def whole(answer: Any, usage: dict[str, Any], **step: Any) -> bytes:
    """Return the same answer whole, in chat's form."""
    thoughts, parts = answer
    message: dict[str, Any] = {"role": "assistant", "tool_calls": []}
    order: list[Any] = []
    if thoughts is not None:
        message["reasoning"] = thoughts[0]
        message["seals"] = [thoughts[1]] if thoughts[1] else []
        order.append(["reasoning", len(thoughts[0])])
    text = ""
    for kind, piece, seal in parts:
        if kind == "text":
            text += piece
            order.append(["text", len(piece)])
        else:
            call = {"id": f"call_{len(message['tool_calls'])}", "type": "function", "seal": seal}
            function = {"name": "f", "arguments": piece}
            message["tool_calls"].append({**call, "function": function})
            order.append(["tool_call", 1])
    message["content"] = text or None
    choice = {"index": 0, "message": message, "blocks": order, **step}
    return json.dumps({**HEAD, "choices": [choice], "usage": usage}).encode()


def streamed(data: list[bytes]) -> list[dict[str, Any]]:
    """Return the events that are written for those in chat's form."""
    writer = MessagesWriter()
    text = b"".join([*map(writer.events, data), writer.end()])
    return events_in(text.decode())


def joined(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return blocks with neighbouring texts in one, as a stream has them."""
    made: list[dict[str, Any]] = []
    for block in content:
        if made and made[-1]["type"] == block["type"] == "text":
            made[-1] = {**block, "text": made[-1]["text"] + block["text"]}
        else:
            made.append(block)
    return made


@settings(deadline=None)
@given(answer=answers, size=st.integers(1, 12), count=st.tuples(counts, counts, counts, counts))
def test_streamed_is_whole(answer: Any, size: int, count: tuple[int, int, int, int]) -> None:
    """Every event is one of the package's, and together they are the message that comes whole."""
    usage = usage_of(*count)
    events = streamed([*steps(answer, size), *ending(usage, finish_reason="stop")])
    message = json.loads(MessagesWriter().whole(whole(answer, usage, finish_reason="stop")))

    for event in events:
        if event["type"] != "ping":
            _event.validate_python(event)
    Message.model_validate(message)
    made = added_up(events)
    assert joined(made["content"]) == joined(message["content"])
    assert [block["input"] for block in made["content"] if block["type"] == "tool_use"] == [
        json.loads(text) for kind, text, _ in answer[1] if kind == "tool_call"
    ]
    assert (made["stop_reason"], made["usage"]) == (message["stop_reason"], message["usage"])
    assert events[0]["message"]["usage"]["input_tokens"] >= 0
    buckets = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    assert (
        *(message["usage"][name] for name in buckets),
        message["usage"]["output_tokens"],
    ) == count


@settings(deadline=None)
@given(answer=answers, size=st.integers(1, 12), group=st.integers(1, 9))
def test_it_does_not_matter_what_comes_together(answer: Any, size: int, group: int) -> None:
    """Events in one batch are written as those that come one by one."""
    data = [*steps(answer, size), *ending(usage_of(), finish_reason="stop")]
    together = [b"".join(data[i : i + group]) for i in range(0, len(data), group)]
    assert streamed(together) == streamed(data)


@given(answer=answers)
@settings(deadline=None)
def test_blocks_follow_each_other(answer: Any) -> None:
    """One block is open at a time, and indices have no gap."""
    is_open = False
    begun = 0
    for event in streamed([*steps(answer, 3), *ending(usage_of(), finish_reason="stop")]):
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == begun
            is_open, begun = True, begun + 1
        elif event["type"].startswith("content_block_"):
            assert is_open
            assert event["index"] == begun - 1
            is_open = event["type"] != "content_block_stop"
    assert not is_open


def test_calls_that_come_mixed_are_written_one_after_the_other() -> None:
    """Some servers send pieces of several calls in turn; a block has to end before the next one."""
    pieces = [(0, '{"a"'), (1, '{"b"'), (0, ": 1}"), (1, ": 2}")]
    calls = [
        {"index": index, "id": f"call_{index}", "function": {"name": "f", "arguments": text}}
        for index, text in pieces
    ]
    data = [chunk({"tool_calls": [call]}) for call in calls]
    made = added_up(streamed([*data, *ending(usage_of(), finish_reason="tool_calls")]))

    assert [block["input"] for block in made["content"]] == [{"a": 1}, {"b": 2}]
    assert [block["id"] for block in made["content"]] == ["call_0", "call_1"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"finish_reason": "stop"}, "end_turn"),
        ({"finish_reason": "length"}, "max_tokens"),
        ({"finish_reason": "tool_calls"}, "tool_use"),
        ({"finish_reason": "content_filter"}, "refusal"),
        ({"finish_reason": "stop", "native_finish_reason": "SAFETY"}, "end_turn"),
        *(
            ({"finish_reason": "stop", "native_finish_reason": reason}, reason)
            for reason in (
                *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
                "model_context_window_exceeded",
            )
        ),
    ],
)
def test_the_reason_of_the_end(step: dict[str, Any], reason: str) -> None:
    """Anthropic's own word if the provider has one, else the nearest; the stop sequence comes with it."""
    sequence = "END" if reason == "stop_sequence" else None
    step = {**step, "stop_sequence": sequence}
    events = streamed([chunk({"content": "x"}), *ending(usage_of(), **step)])
    message = json.loads(
        MessagesWriter().whole(whole((None, [("text", "x", None)]), usage_of(), **step))
    )

    assert events[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_stop_after_calls_is_tool_use() -> None:
    """Agents would not run the tools of a message that just ends."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    events = streamed([chunk({"tool_calls": [call]}), *ending(usage_of(), finish_reason="stop")])
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_failure_is_the_last_event() -> None:
    """No block is closed and nothing looks like an end."""
    writer = MessagesWriter()
    text = writer.events(chunk({"content": "x"}))
    error = EdgeError("UPSTREAM_ERROR", "It broke.")
    events = events_in((text + writer.failed(error, "req_1")).decode())

    assert events[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "It broke."},
        "request_id": "req_1",
    }
    assert "content_block_stop" not in [event["type"] for event in events]
