"""Answers that are passed on as they come: only the id and the model in them become the gateway's own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from maniac_core.domain.chat import Wire

_Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.Encoder().encode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def renamed_answer(wire: Wire, answer: bytes, completion_id: str, model: str) -> bytes:
    """Return a whole answer with the gateway's id and the slug that served it; every other byte stays."""
    try:
        return _RENAMED[wire](answer, completion_id, model)
    except _NOT_JSON:
        return answer


def renamed_event(wire: Wire, event: bytes, completion_id: str, model: str) -> bytes:
    """The same of one event of a stream, which ends with an empty line."""
    start = event.find(b"data: ")
    if start < 0 or not any(key in event for key in _MARKS[wire]):
        return event
    head, data = event[: start + 6], event[start + 6 :].strip()
    try:
        return head + _RENAMED[wire](data, completion_id, model) + b"\n\n"
    except _NOT_JSON:
        return event


def _message(data: bytes, completion_id: str, model: str) -> bytes:
    """Anthropic's: a message, or an event that holds one."""
    return _replaced_in(data, "message", {"id": completion_id, "model": model})


def _response(data: bytes, completion_id: str, model: str) -> bytes:
    """OpenAI's: a response, or an event that holds one."""
    return _replaced_in(data, "response", {"id": completion_id, "model": model})


def _generated(data: bytes, completion_id: str, model: str) -> bytes:
    """Gemini's: each event is an answer of its own."""
    return _replaced(_members(data), {"responseId": completion_id, "modelVersion": model})


def _replaced_in(data: bytes, key: str, values: dict[str, str]) -> bytes:
    members = _members(data)
    inner = members.get(key)
    if inner is None:
        return _replaced(members, values)
    members[key] = msgspec.Raw(_replaced(_members(inner), values))
    return _encode(members)


def _replaced(members: _Members, values: dict[str, str]) -> bytes:
    for key, value in values.items():
        if key in members:
            members[key] = msgspec.Raw(_encode(value))
    return _encode(members)


_RENAMED: dict[Wire, Callable[[bytes, str, str], bytes]] = {
    "messages": _message,
    "responses": _response,
    "gemini": _generated,
}
# What an event has that needs it; most have not.
_MARKS: dict[Wire, tuple[bytes, ...]] = {
    "messages": (b'"message_start"',),
    "responses": (b'"response":', b'"response" :'),
    "gemini": (b'"responseId"', b'"modelVersion"'),
}
