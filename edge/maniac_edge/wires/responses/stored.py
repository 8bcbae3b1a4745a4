"""Stored responses: from the contract's message to the form of OpenAI's Responses."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2, responses_pb2

from maniac_edge.http import sse
from maniac_edge.wires.responses.answer import ResponsesWriter
from maniac_edge.wires.responses.request import parse_request
from maniac_edge.wires.responses.response import repeated, response_object

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_Object = dict[str, Any]


def stored_response(stored: responses_pb2.StoredResponse) -> bytes:
    """Return a stored response, JSON."""
    if stored.answer_json and not stored.HasField("error"):
        return ResponsesWriter(parse_request(stored.request_json)).whole(stored.answer_json)
    return _encode(_without_answer(stored))


def _without_answer(stored: responses_pb2.StoredResponse) -> _Object:
    is_cancelled = stored.status == chat_pb2.COMPLETION_STATUS_CANCELLED
    raw = _members(stored.request_json)
    error = {"code": stored.error.code, "message": stored.error.message}
    return response_object(
        repeated(raw),
        response_id=stored.id,
        created=stored.create_time.seconds,
        model=_decode(raw["model"]) if "model" in raw else "",
        provider=None,
        status="cancelled" if is_cancelled else "failed",
        output=[],
        error=error if stored.HasField("error") else None,
    )


def stored_events(stored: responses_pb2.StoredResponse, after: int) -> bytes:
    """Return the events of a stored response that come after a sequence number, -1 for all.

    Its text is in one delta: the steps in which it came are not kept.
    """
    writer = ResponsesWriter(parse_request(stored.request_json))
    if not stored.answer_json or stored.HasField("error"):
        response = _without_answer(stored)
        event = {"type": "response.failed", "response": response, "sequence_number": 0}
        return b"event: response.failed\ndata: %b\n\n%b" % (_encode(event), sse.DONE)
    return writer.replayed(stored.answer_json, after)


def input_items(stored: responses_pb2.StoredResponse) -> list[_Object]:
    """Return the items of the request, each with an id."""
    given = _decode(_members(stored.request_json)["input"])
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    suffix = stored.id.removeprefix("resp_")
    items: list[_Object] = []
    for position, item in enumerate(given):
        kind = item.get("type") or "message"
        if kind == "message" and isinstance(item.get("content"), str):
            part = "output_text" if item.get("role") == "assistant" else "input_text"
            more: _Object = {"annotations": []} if part == "output_text" else {}
            item = {**item, "content": [{"type": part, "text": item["content"], **more}]}  # noqa: PLW2901
        items.append(
            {"id": f"item_{suffix}{position}", "status": "completed", **item, "type": kind}
        )
    return items
