"""What is written of a response: the same events for the same steps, however they come, and the same as whole."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maniac_edge.errors import EdgeError
from maniac_edge.wires.responses.answer import ResponsesWriter
from maniac_edge.wires.responses.custom_input import CustomInput
from maniac_edge.wires.responses.request import parse_request
from openai.types.responses import Response, ResponseStreamEvent
from responses_events import check_items, events_in

HEAD = {"id": "resp_1", "created": 1, "model": "a/b", "provider": "a", "container": None}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TOOLS: Any = [
    {"type": "function", "name": "plain", "parameters": {"type": "object"}},
    {"type": "custom", "name": "shell"},
    {
        "type": "namespace",
        "name": "fs",
        "description": "",
        "tools": [{"type": "custom", "name": "x"}],
    },
]
_event: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)

texts = st.text(min_size=1, max_size=12)
calls = st.tuples(
    st.just("tool_call"),
    st.sampled_from(["plain", "shell", "fs__x"]),
    st.one_of(texts.map(lambda t: json.dumps({"input": t})), texts),
)
answers = st.lists(
    st.one_of(st.tuples(st.just("text"), texts), st.tuples(st.just("reasoning"), texts), calls),
    max_size=6,
)
finishes = st.sampled_from(["stop", "length", "content_filter", "tool_calls"])


def writer(**more: Any) -> ResponsesWriter:
    """Return the writer for a request."""
    body = {"model": "a/b", "input": "Hi", "tools": TOOLS, **more}
    return ResponsesWriter(parse_request(json.dumps(body).encode()))


def chunk(*deltas: dict[str, Any], **more: Any) -> bytes:
    """Return an event in chat's form."""
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    return b"data: %b\n\n" % json.dumps({**HEAD, "choices": choices, **more}).encode()


def ending(finish: str) -> bytes:
    """Return the last events in chat's form."""
    step = {"index": 0, "delta": {}, "finish_reason": finish}
    return chunk(choices=[step]) + chunk(usage=USAGE)


def stepwise(answer: list[Any], finish: str, size: int) -> list[bytes]:
    """Return the events for an answer whose texts come in pieces of a size."""
    events = [chunk({"role": "assistant"})]
    index = 0
    for block in answer:
        pieces = [block[-1][i : i + size] for i in range(0, len(block[-1]), size)]
        if block[0] == "tool_call":
            call: dict[str, Any] = {"index": index, "id": f"call_{index}"}
            events.append(
                chunk({"tool_calls": [{**call, "function": {"name": block[1], "arguments": ""}}]})
            )
            events += [
                chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                for piece in pieces
            ]
            index += 1
        else:
            key = "content" if block[0] == "text" else "reasoning"
            events += [chunk({key: piece}) for piece in pieces]
    return [*events, ending(finish)]


def at_once(answer: list[Any], finish: str) -> bytes:
    """Return the whole answer in chat's form."""
    called = [block for block in answer if block[0] == "tool_call"]
    message = {
        "content": "".join(block[1] for block in answer if block[0] == "text") or None,
        "reasoning": "".join(block[1] for block in answer if block[0] == "reasoning") or None,
        "tool_calls": [
            {"id": f"call_{i}", "function": {"name": block[1], "arguments": block[2]}}
            for i, block in enumerate(called)
        ],
    }
    blocks = [(block[0], 1 if block[0] == "tool_call" else len(block[1])) for block in answer]
    choice = {"message": message, "finish_reason": finish, "blocks": blocks}
    return json.dumps({**HEAD, "choices": [choice], "usage": USAGE}).encode()


@settings(deadline=None)
@given(answers, finishes, st.integers(1, 4), st.sampled_from([None, "auto"]))
def test_whole_and_streamed_are_the_same(
    answer: list[Any], finish: str, size: int, summary: str | None
) -> None:
    """However the texts are cut, the events are those of the package, and end in the whole response."""
    more = {"reasoning": {"summary": summary}}
    streamed = writer(**more)
    data = b"".join(map(streamed.events, stepwise(answer, finish, size))) + streamed.end()
    events = events_in(data.decode())

    assert data.endswith(b"data: [DONE]\n\n")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        _event.validate_python(event)
    final = events[-1]["response"]
    check_items(events, final["output"])
    assert final == json.loads(writer(**more).whole(at_once(answer, finish)))
    assert Response.model_validate(final).status == events[-1]["type"].removeprefix("response.")


@settings(deadline=None)
@given(answers, st.integers(0, 40))
def test_events_that_come_together_are_written_as_those_that_come_apart(
    answer: list[Any], position: int
) -> None:
    """The same steps give the same bytes, so that stored ones can be repeated."""
    steps = stepwise(answer, "stop", 2)
    one, other = writer(), writer()

    apart = b"".join(map(one.events, steps)) + one.end()
    together = other.events(b"".join(steps[:position])) + other.events(b"".join(steps[position:]))
    assert together + other.end() == apart


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_the_text_for_a_custom_tool_comes_as_it_is_written(
    text: str, cuts: list[int], ascii_only: bool
) -> None:
    """Escapes and characters may be cut anywhere."""
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    places = sorted({0, *(min(cut, len(arguments)) for cut in cuts), len(arguments)})
    reader = CustomInput()
    pieces = [reader.add(arguments[a:b]) for a, b in itertools.pairwise(places)]

    assert "".join(pieces) == text
    assert reader.end() == ""


@settings(deadline=None)
@given(st.text(alphabet='{"input:\\ud83D\\e0}x ', max_size=24), st.integers(0, 24))
def test_arguments_of_any_kind_give_one_text(arguments: str, cut: int) -> None:
    """What a model wrote otherwise than it was asked to reaches the client too, the same in pieces and at once."""
    whole, halves = CustomInput(), CustomInput()
    at_once = whole.add(arguments) + whole.end()

    assert halves.add(arguments[:cut]) + halves.add(arguments[cut:]) + halves.end() == at_once
    at_once.encode()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{ "input" : "a\\nb" }', "a\nb"),
        ('{"note": 1, "input": "a"}', "a"),
        ('{"patch": "a"}', '{"patch": "a"}'),
        ("ls -l", "ls -l"),
        ('{"input": "cut \\u00', "cut "),
        ('{"input":"\\ud83d"}', "\ufffd"),
        ("", ""),
    ],
)
def test_what_models_write_for_a_custom_tool(arguments: str, text: str) -> None:
    """Text, in the form that was asked for or in another."""
    reader = CustomInput()

    assert reader.add(arguments) + reader.end() == text


def test_the_text_for_a_custom_tool_is_not_held_back() -> None:
    """The client sees it as the model writes it."""
    writing = writer()
    function = {"name": "shell", "arguments": '{"input":"ls'}
    call = {"index": 0, "id": "c", "function": function}
    (delta,) = (
        event
        for event in events_in(writing.events(chunk({"tool_calls": [call]})).decode())
        if event["type"].endswith(".delta")
    )

    assert delta["delta"] == "ls"


def test_citations_have_the_form_of_responses() -> None:
    """Pages that chat cites, each with an event; citations of other kinds are left out."""
    page = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    given_ones = [{"type": "url_citation", "url_citation": page}, {"type": "other"}]
    writing = writer()
    data = writing.events(chunk({"content": "Hi"}, {"annotations": given_ones}) + ending("stop"))
    events = events_in((data + writing.end()).decode())

    for event in events:
        _event.validate_python(event)
    assert [e["annotation"] for e in events if "annotation" in e] == [
        {"type": "url_citation", **page}
    ]
    part = events[-1]["response"]["output"][0]["content"][0]
    assert part["annotations"] == [{"type": "url_citation", **page}]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EdgeError("RATE_LIMIT_EXCEEDED", "Too many."), "rate_limit_exceeded"),
        (EdgeError("UPSTREAM_TIMEOUT", "Too late."), "server_error"),
    ],
)
def test_a_failure_has_the_forms_of_the_package(error: EdgeError, code: str) -> None:
    """A response that failed, then the error with the gateway's own code; never a response that completed."""
    writing = writer()
    data = writing.events(chunk({"content": "Hi"})) + writing.failed(error, "r")
    *_, failed, last = events = events_in(data.decode())

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert _event.validate_python(failed).response.error.code == code
    assert (failed["type"], last["type"]) == ("response.failed", "error")
    assert (last["code"], last["message"]) == (error.code, error.message)
    assert data.endswith(b"data: [DONE]\n\n")


def test_a_failure_of_a_provider_of_this_api_goes_on_counting() -> None:
    """Its own events passed as they came."""
    writing = writer()
    passed = writing.native_events(b'event: x\ndata: {"type":"x","sequence_number":7}\n\n')
    (last,) = events_in(writing.failed(EdgeError("UPSTREAM_TIMEOUT", "Late."), "r").decode())

    assert passed.startswith(b"event: x")
    assert last["sequence_number"] == 8
    assert writer().native_end() == b"data: [DONE]\n\n"
