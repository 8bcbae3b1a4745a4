"""Messages on OpenAI's wire as servers send them: whole ones, and deltas, which have the same fields."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.foreign_json import check_depth


class WirePart(msgspec.Struct):
    """A part of a content that is a list."""

    type: str | None = None
    text: str | None = None
    thinking: str | list[str | WirePart] | None = None


class WireFunction(msgspec.Struct):
    """Name and arguments, or a fragment of them."""

    name: str | None = None
    arguments: Any = None
    """Text; some servers send the value itself."""


class WireCall(msgspec.Struct):
    """A tool call, or a fragment of one."""

    index: int | str | None = None
    id: str | int | None = None
    function: WireFunction | None = None
    extra_content: Any = None


class WireMessage(msgspec.Struct):
    """A message or a delta. Fields of type `Any` are passed on as they came, or left out if they are not text."""

    content: str | list[str | WirePart] | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: WireFunction | None = None
    annotations: Any = None
    audio: Any = None
    images: Any = None


def text_of(content: str | list[str | WirePart] | None) -> tuple[str | None, str | None]:
    """Return the text and the reasoning of a content; Mistral sends both as a list of parts."""
    if content is None or isinstance(content, str):
        return content, None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.text is not None:
            texts.append(part.text)
        elif part.type == "thinking":
            thought = text_of(part.thinking)[0]
            if thought:
                thoughts.append(thought)
    return "".join(texts) if texts else None, "".join(thoughts) if thoughts else None


def details_of(value: Any, where: str) -> list[JsonObject] | None:
    """Return the objects of `reasoning_details`; None for none, and for a value that holds none.

    Raises:
        UpstreamFailure: they are nested too deeply.
    """
    if not isinstance(value, list):
        return None
    details = [detail for detail in value if isinstance(detail, dict)]
    check_depth(details, where)
    return details or None


def arguments_of(value: Any) -> str:
    """Return tool arguments as JSON text; some servers send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def id_of(value: str | int | None) -> str | None:
    """Return the id of a call as text; None for none."""
    return None if value is None or value == "" else str(value)


def new_call_id() -> str:
    """Return an id for a tool call that came without one; unique, since clients match results by it."""
    return "call_" + os.urandom(12).hex()


def extras_of(given: JsonObject, known: Iterable[str], where: str) -> JsonObject:
    """Return the further keys of an object that hold something.

    Raises:
        UpstreamFailure: one is nested too deeply.
    """
    extras = {
        key: value
        for key, value in given.items()
        if key not in known and value is not None and value != []
    }
    for key, value in extras.items():
        check_depth(value, f"{where}.{key}")
    return extras
