"""The parts of a stored record that can be shown.

Rows outlive the version that wrote them, and hold what providers once sent: a reader takes nothing for granted. What
does not have its shape is left out and named, so that one bad row never hides the rest of a page.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

import msgspec

from maniac_core.domain.chat import JsonObject, Usage

_T = TypeVar("_T")
_INT64_MAX = (1 << 63) - 1
_Position = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Index = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Image(msgspec.Struct):
    url: str | None = None
    detail: str | None = None


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    image_url: _Image | str | None = None
    file: _File | str | None = None


class _Message(msgspec.Struct):
    role: str | None = None
    content: str | list[_Part] | None = None
    name: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    index: _Index | None = None
    finish_reason: str | None = None


class _Input(msgspec.Struct):
    messages: list[_Message]


class Added(msgspec.Struct):
    """The parts of a request that its container added."""

    messages: list[_Position] = []
    """Positions, from 0."""
    parameters: list[str] = []


class Route(msgspec.Struct):
    """How a request was routed, and what else it takes to send it once more."""

    candidates: list[str] = []
    dropped: list[str] = []
    prices: dict[str, Any] | None = None
    stream_options: dict[str, msgspec.Raw] | None = None
    headers: dict[str, str] = {}
    added: Added | None = None
    wire: str = "chat"
    native_request: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    """As its client sent it, on another wire than chat; empty: none, or not stored."""
    native_answer: str | None = None
    """As its provider made it, where it was passed on so."""
    native_events: str | None = None
    """The same of a streamed one."""


_choices = msgspec.json.Decoder(list[_Choice])
_input = msgspec.json.Decoder(_Input)
_route = msgspec.json.Decoder(Route)
_tags = msgspec.json.Decoder(tuple[str, ...])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything = msgspec.json.Decoder()


def readable_choices(output: bytes | None) -> bytes | None:
    """Return the choices of an answer, a JSON array; None unless every one has its shape."""
    return None if output is None or decoded(_choices, output) is None else output


def readable_input(body: bytes | None) -> bytes | None:
    """Return a request as it is stored; None unless it has messages of their shape."""
    return None if body is None or decoded(_input, body) is None else body


def readable_route(route: bytes | None) -> Route | None:
    """Return a route as it is stored; None for what is none."""
    return None if route is None else decoded(_route, route)


def readable_tags(text: str | None) -> tuple[str, ...] | None:
    """Return tags; None if the value is not an array of texts."""
    return () if text is None else decoded(_tags, text.encode())


def readable_object(text: str | bytes | None) -> bytes | None:
    """Return a JSON object as it is stored; None for anything else."""
    if text is None:
        return None
    document = text.encode() if isinstance(text, str) else text
    if decoded(_members, document) is not None:
        return document
    try:
        # Half of a surrogate pair, as an escape, is well-formed JSON: the reader decides.
        return document if isinstance(json.loads(document), dict) else None
    except (ValueError, RecursionError):
        return None


def readable_usage(usage: Usage) -> Usage | None:
    """Return token counts; None if they or their sums are not counts of 64 bits."""
    parts = (
        *(usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens),
        *(usage.cache_write_1h_tokens, usage.output_tokens, usage.reasoning_tokens),
    )
    return usage if min(parts) >= 0 and sum(parts) <= _INT64_MAX else None


def input_messages(body: bytes) -> list[JsonObject]:
    """Return the messages of a request that is readable."""
    messages: list[JsonObject] = _anything.decode(body)["messages"]
    return messages


def decoded(decoder: msgspec.json.Decoder[_T], document: bytes) -> _T | None:
    """Return what a decoder makes of a document; None if it does not have that shape."""
    try:
        return decoder.decode(document)
    except (ValueError, RecursionError):
        return None
