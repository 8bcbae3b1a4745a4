"""Rows that no reader can make sense of are read all the same: what cannot be shown is left out and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.rpc.chat.stored import detail_to_proto, stored_to_proto
from maniac_core.services.history.export import fine_tuning_line, record_json, request_json
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]
_HUGE = (1 << 63) - 1


def _choice(message: str, more: str = "") -> bytes:
    return f'[{{"index":0,"message":{message}{more}}}]'.encode()


_OUTPUTS = [
    *(
        b"",
        b"{",
        b"null",
        b"7",
        b"{}",
        b"[1]",
        b"[{}]",
        b"\xff\xfe",
        b'[{"index":0,"message":null}]',
    ),
    b"[" * 100_000,
    _choice("[]"),
    *(
        _choice(f'{{"role":"assistant","{name}":{value}}}')
        for name in ("role", "name", "refusal", "reasoning", "tool_call_id", "content")
        for value in ("{}", "7", "true")
    ),
    _choice('{"role":"assistant","content":[7]}'),
    _choice('{"role":"assistant","content":[{"type":{}}]}'),
    _choice('{"role":"assistant","content":[{"type":"text","text":[1]}]}'),
    _choice('{"role":"assistant","content":[{"type":"image_url","image_url":{"url":1}}]}'),
    _choice('{"role":"assistant","content":[{"type":"file","file":{"file_id":{}}}]}'),
    _choice('{"role":"assistant","content":"\\ud800"}'),
    _choice('{"role":"assistant","tool_calls":{"id":"c"}}'),
    _choice('{"role":"assistant","tool_calls":[7]}'),
    _choice('{"role":"assistant","tool_calls":[{"id":7}]}'),
    _choice('{"role":"assistant","tool_calls":[{"function":{"name":[],"arguments":"{}"}}]}'),
    _choice('{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}'),
    _choice('{"role":"assistant","reasoning_details":"x"}'),
    _choice('{"role":"assistant"}', ',"finish_reason":[]'),
    b'[{"index":9999999999,"message":{"role":"assistant"}}]',
    b'[{"index":"0","message":{"role":"assistant"}}]',
]
_INPUTS = [
    *(b"{", b"7", b"[]", b"{}", b'{"messages":{}}', b'{"messages":[7]}', b"\xff"),
    b'{"messages":[{"role":{}}]}',
    b'{"messages":[{"role":"user","content":7}]}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"id":[]}]}]}',
]


async def _read(completions: CompletionStore, caller: Caller, record: CompletionRecord) -> Any:
    """Read a record in every way, into every form; returns what the list shows."""
    [listed] = await completions.list(caller.project, CompletionFilter(), Page())
    assert await completions.get(caller.project, record.id) == listed
    shown = stored_to_proto(listed)
    assert shown.completion.id == record.id
    detail = await completions.explain(caller.project, record.id)
    assert detail is not None
    detail_to_proto(detail).SerializeToString()
    given = (await completions.inputs(caller.project, [record.id]))[record.id]
    msgspec.json.decode(msgspec.json.encode(record_json(listed, given)))
    request_json(given)
    fine_tuning_line(listed, given.body)
    return shown


@pytest.mark.parametrize("output", _OUTPUTS, ids=range(len(_OUTPUTS)))
async def test_an_answer_that_cannot_be_shown_is_named(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller, output: bytes
) -> None:
    """A malformed answer, or one of wrong types, costs its record the choices only."""
    shown = await _read(
        completions, caller, await _captured(completions, make_record(output=output))
    )
    assert list(shown.unreadable) == ["choices"]
    assert len(shown.completion.choices) == 0
    assert shown.completion.usage.total_tokens > 0


@pytest.mark.parametrize("body", _INPUTS, ids=range(len(_INPUTS)))
async def test_a_request_that_cannot_be_shown_costs_nothing_else(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller, body: bytes
) -> None:
    """A malformed request is left out of exports, and the answer is shown."""
    record = await _captured(completions, make_record(input=body))
    shown = await _read(completions, caller, record)
    assert list(shown.unreadable) == []
    assert shown.completion.choices[0].message.text == "ho"
    bodies = await completions.inputs(caller.project, [record.id])
    assert request_json(bodies[record.id]) is None


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"metadata": b"{"}, "metadata"),
        ({"metadata": b"[1]"}, "metadata"),
        ({"trace": Trace(id="t", metadata=msgspec.Raw(b'{"a":'))}, "trace"),
        ({"usage": Usage(input_tokens=_HUGE, output_tokens=_HUGE)}, "usage"),
        ({"usage": Usage(input_tokens=-1)}, "usage"),
    ],
)
async def test_each_other_part_is_named(
    completions: CompletionStore,
    make_record: RecordFactory,
    caller: Caller,
    changes: dict[str, Any],
    name: str,
) -> None:
    """Metadata, trace and counts that are none are left out, and the answer is shown."""
    shown = await _read(completions, caller, await _captured(completions, make_record(**changes)))
    assert list(shown.unreadable) == [name]
    assert shown.completion.choices[0].message.text == "ho"


async def test_words_of_a_later_version_are_shown_as_unknown(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """A status, a source of usage and a reason that this version does not know, and a route that is none."""
    record = make_record(
        status="parked", usage_source="oracle", error_reason="LATER", route=b"[", error_message="x"
    )
    shown = await _read(completions, caller, await _captured(completions, record))
    assert (shown.status, shown.usage_source) == (0, 0)
    assert (shown.error.reason, shown.error.code, shown.error.message) == ("LATER", "", "x")


async def _captured(completions: CompletionStore, record: CompletionRecord) -> CompletionRecord:
    await completions.capture(record)
    return record
