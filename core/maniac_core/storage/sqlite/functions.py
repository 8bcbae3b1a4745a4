"""Functions in SQL that SQLite lacks: into JSON documents, and the texts of bodies.

They are all that filters need beyond standard SQL; another engine has functions of these names in its schema. None
raises: a value that is missing, or is not JSON, is NULL. A path is a JSON array of keys.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from maniac_core.domain.canonical_json import canonicalize

_decode = msgspec.json.Decoder().decode
_decode_path = msgspec.json.Decoder(tuple[str, ...]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_TYPES = {ord("t"): "boolean", ord("f"): "boolean", ord("["): "array", ord("{"): "object"}
_QUOTE = ord('"')
_DIGITS = frozenset(b"-0123456789")
_INT64 = 1 << 63


class _Message(msgspec.Struct):
    content: Any = None


class _Request(msgspec.Struct):
    messages: list[_Message] = []


class _Choice(msgspec.Struct):
    message: _Message | None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_choices = msgspec.json.Decoder(list[_Choice]).decode


def register(connection: sqlite3.Connection) -> None:
    """Make the functions known to a connection."""
    functions: tuple[tuple[str, int, Callable[..., Any]], ...] = (
        ("text_at", 2, text_at),
        ("number_at", 2, number_at),
        ("json_at", 3, json_at),
        ("is_present_at", 2, is_present_at),
        ("canonical_json", 1, canonical_json),
        ("has_member", 2, has_member),
        ("input_text", 1, input_text),
        ("output_text", 1, output_text),
    )
    for name, count, function in functions:
        connection.create_function(name, count, function, deterministic=True)


def text_at(document: str | None, path: str) -> str | None:
    """Return the text at a path of an object; NULL if something else is there."""
    value = _at(document, path)
    if value is None or value[0] != _QUOTE:
        return None
    try:
        text: str = _decode(value)
    except (ValueError, RecursionError):
        # Half of a surrogate pair.
        return None
    return text


def number_at(document: str | None, path: str) -> float | None:
    """Return the number at a path of an object; NULL if something else is there."""
    value = _at(document, path)
    if value is None or value[0] not in _DIGITS:
        return None
    try:
        number: int | float = _decode(value)
        return number if -_INT64 <= number < _INT64 else float(number)
    except (ValueError, OverflowError):
        return None


def json_at(document: str | None, path: str, kind: str) -> str | None:
    """Return the boolean, array or object at a path as canonical JSON; NULL if something else is there."""
    value = _at(document, path)
    if value is None or _TYPES.get(value[0]) != kind:
        return None
    return canonicalize(value).decode()


def is_present_at(document: str | None, path: str) -> int:
    """Return 1 if there is something else than null at a path."""
    return int(_at(document, path) is not None)


def canonical_json(document: str | None) -> str | None:
    """Return a JSON document in the form in which equal ones are equal."""
    return None if document is None else canonicalize(document.encode()).decode()


def has_member(document: str | None, member: str) -> int | None:
    """Return whether a JSON array has an element, given as canonical JSON; NULL if it is none."""
    if document is None:
        return None
    try:
        elements = _elements(document)
    except (ValueError, RecursionError):
        return None
    wanted = member.encode()
    return int(any(canonicalize(bytes(element)) == wanted for element in elements))


def input_text(body: bytes | None) -> str | None:
    """Return the texts of a request's messages, a line feed between them; NULL if there is none."""
    if body is None:
        return None
    try:
        request = _decode_request(body)
    except (ValueError, RecursionError):
        return None
    return _joined(message.content for message in request.messages)


def output_text(body: bytes | None) -> str | None:
    """Return the texts of an answer's choices, a line feed between them; NULL if there is none."""
    if body is None:
        return None
    try:
        choices = _decode_choices(body)
    except (ValueError, RecursionError):
        return None
    return _joined(choice.message.content for choice in choices if choice.message is not None)


def _joined(contents: Iterator[Any]) -> str | None:
    texts = [text for content in contents for text in _texts(content)]
    return "\n".join(texts) if texts else None


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                yield text


def _at(document: str | None, path: str) -> bytes | None:
    """Return the JSON at a path; None for null."""
    if document is None:
        return None
    value = msgspec.Raw(document.encode())
    try:
        for key in _path(path):
            found = _members(value).get(key)
            if found is None:
                return None
            value = found
    except (ValueError, RecursionError):
        return None
    text = bytes(value)
    return None if text == b"null" else text


@functools.lru_cache(maxsize=256)
def _path(path: str) -> tuple[str, ...]:
    return _decode_path(path)
