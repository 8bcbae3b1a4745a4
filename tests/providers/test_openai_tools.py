"""Tool calls in streams of those who speak OpenAI's wire, self-written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from maniac_core.domain.chat import ChoiceDelta, ToolCallDelta
from maniac_core.providers.openai.stream import OpenAIStreamDecoder
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEEvent


def deltas(*fragments: list[dict[str, Any]], key: str = "tool_calls") -> list[ToolCallDelta]:
    """What the client gets of calls whose fragments came in these chunks, the end included."""
    decoder = OpenAIStreamDecoder()
    items = []
    for fragment in fragments:
        value = {"choices": [{"index": 0, "delta": {key: fragment}}]}
        items += decoder.feed(SSEEvent(None, msgspec.json.encode(value)))
    items += decoder.feed(SSEEvent(None, b"[DONE]"))
    return [call for item in items if isinstance(item, ChoiceDelta) for call in item.tool_calls]


def calls(*fragments: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Names and arguments of the whole calls, whose ids must be different."""
    folded = Accumulator()
    for call in deltas(*fragments):
        folded.add_delta(ChoiceDelta(tool_calls=(call,)))
    (choice,) = folded.choices()
    whole = choice.message["tool_calls"]
    assert len({call["id"] for call in whole}) == len(whole)
    assert all(call["id"] for call in whole)
    return [(call["function"]["name"], call["function"]["arguments"]) for call in whole]


def part(arguments: Any = None, name: str | None = None, **keys: Any) -> dict[str, Any]:
    return {**keys, "function": {"name": name, "arguments": arguments}}


def test_id_and_name_stand_on_the_first_fragment_only() -> None:
    """Later fragments carry index and arguments, also when the server repeats id and name."""
    first, second = deltas(
        [part('{"a"', "f", index=0, id="c1", type="function")],
        [part(":1}", "f", index=0, id="c1", type="function")],
    )
    assert first == ToolCallDelta(index=0, id="c1", name="f", arguments='{"a"')
    assert second == ToolCallDelta(index=0, arguments=":1}")


def test_indexes_are_made_consecutive() -> None:
    """Indexes that start above 0 or leave gaps come out as 0..n-1."""
    got = deltas([part("{}", "f", index=1, id="c1")], [part("{}", "g", index=5, id="c2")])
    assert [(call.index, call.name) for call in got] == [(0, "f"), (1, "g")]


@pytest.mark.parametrize(
    "fragments",
    [
        [[part('{"a":1}', "f", id="c1"), part('{"b":2}', "g", id="c2")]],
        [[part('{"a":1}', "f"), part('{"b":2}', "g")]],
        [[part('{"a":1}', "f")], [part('{"b":2}', "g")]],
        [[part('{"a"', "f", id="c1")], [part(":1}")], [part('{"b"', "g", id="c2")], [part(":2}")]],
        [[part('{"a"', "f", id="c1")], [part(":1}", id="c1")], [part('{"b":2}', "g", id="c2")]],
        [[part('{"a":1}', "f", index=0, id="c1")], [part('{"b":2}', "g", index=0, id="c2")]],
        [[part({"a": 1}, "f", index=0), part({"b": 2}, "g", index=1)]],
        [
            [part('{"a"', "f", index=0)],
            [part(":1}", "f", index=0)],
            [part('{"b":2}', "g", index=1)],
        ],
        [
            [part('{"a"', "f", index=0, id="x1")],
            [part(":1}", index=0, id="x2")],
            [part('{"b":2}', "g", index=1, id="x3")],
        ],
    ],
    ids=[
        "no-index",
        "no-index-no-id",
        "no-index-no-id-in-turn",
        "no-index-fragments",
        "id-without-index-on-every-fragment",
        "all-index-0",
        "arguments-as-objects",
        "no-id-repeated-name",
        "new-id-per-fragment",
    ],
)
def test_two_calls_stay_two_calls(fragments: list[list[dict[str, Any]]]) -> None:
    """However a server marks its calls, two of them come out whole and apart."""
    assert calls(*fragments) == [("f", '{"a":1}'), ("g", '{"b":2}')]


def test_two_calls_of_one_function_without_ids_stay_apart() -> None:
    """When the arguments so far are whole, the same name again means another call."""
    fragments = [[part('{"a":1}', "f")], [part('{"a":2}', "f")]]
    assert calls(*fragments) == [("f", '{"a":1}'), ("f", '{"a":2}')]


def test_another_name_is_another_call() -> None:
    """Calls without ids, indexes and arguments are told apart by their names."""
    assert calls([part("", "f")], [part("", "g")]) == [("f", "{}"), ("g", "{}")]


def test_repeated_name_without_index_continues_the_call() -> None:
    """While the arguments are not whole, the same name again means the same call."""
    assert calls([part('{"a"', "f")], [part(":1}", "f")]) == [("f", '{"a":1}')]


@pytest.mark.parametrize("arguments", [None, "", " "])
def test_empty_arguments_end_as_an_object(arguments: str | None) -> None:
    """A call without arguments ends as `{}`, which every client can parse."""
    got = deltas([part(arguments, "f", index=0, id="c1")], [part("", index=0)])
    text = "".join(call.arguments for call in got)
    assert msgspec.json.decode(text) == {}


def test_legacy_function_call_becomes_a_tool_call() -> None:
    """`delta.function_call` streams as call 0 with an id of its own, and ends as tool_calls."""
    decoder = OpenAIStreamDecoder()
    folded = Accumulator()
    for delta, finish in (
        ({"function_call": {"name": "f", "arguments": '{"a"'}}, None),
        ({"function_call": {"arguments": ":1}"}}, None),
        ({}, "function_call"),
    ):
        value = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        folded.add_all(decoder.feed(SSEEvent(None, msgspec.json.encode(value))))
    folded.add_all(decoder.finish())
    (choice,) = folded.choices()
    (call,) = choice.message["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert call["id"].startswith("call_")
    assert choice.finish_reason == "tool_calls"


def test_extra_content_of_a_call_is_kept() -> None:
    """Signatures that a server hangs on a call reach the client, so that it can send them back."""
    extra = {"google": {"thought_signature": "sig"}}
    (call,) = deltas([part("{}", "f", index=0, id="c1", extra_content=extra)])
    assert call.extra == {"extra_content": extra}
