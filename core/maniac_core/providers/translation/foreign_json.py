"""A provider's JSON, decoded into structs: mended where its meaning is clear, else refused with the path.

No value that a reader of stored answers could choke on gets past these functions: text is valid Unicode, numbers are
finite, and what is passed on untyped is not nested deeply.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, TypeVar

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure

_T = TypeVar("_T")

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised by decoding a provider's bytes: bad syntax or types, bad UTF-8, deep nesting."""
MAX_DEPTH = 64
"""Levels of a value that is passed on as it came, such as annotations."""
MAX_TOOL_CALLS = 1000
"""Of one choice. No model makes so many, and each costs far more than its bytes."""

_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A value takes two bytes with its comma, and a hundred times that when it is decoded.
_MAX_VALUES = 200_000
# What Python's encoder writes and JSON has not. Each costs far more than its bytes.
_ODD = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]")
_MOST_ODD = 10_000
_LONGEST_MENDED = 1024 * 1024
# Each alternative goes on to its end and never back, over strings that nothing closes as well, so that no text takes
# longer than another of its size.
_TOKEN = re.compile(
    rb'(?:[^"NI-]|"(?:[^"\\]|\\(?!u[dD][89a-fA-F]).)*+"|(?!NaN|-?Infinity)[NI-])++'
    rb'|"(?:[^"\\]|\\.)*+["\\]?'
    rb"|-?Infinity|NaN",
    re.DOTALL,
)
_ESCAPE = re.compile(
    rb"(?:[^\\]|\\(?!u[dD][89a-fA-F]).)++"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\",
    re.DOTALL,
)
_NO_NUMBERS = frozenset({b"NaN", b"Infinity", b"-Infinity"})
_PROBLEM = re.compile(r"(?s)(.*?)(?: - at `(?:key in `)?\$(.*?)`)?")
_EXPECTED = re.compile(r"Expected `(.*)`, got `(.*)`")
_NAMES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "a boolean"}
_NAMES |= {"object": "an object", "array": "an array", "null": "null"}
_LONGEST_PATH = 100


def decode(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """Decode a provider's bytes.

    `NaN` and `Infinity`, which Python's encoder writes, are read as null, and half a surrogate pair as U+FFFD: at most
    10,000 of them, in 1 MiB.

    Raises:
        msgspec.ValidationError: JSON of another shape; see `malformed_failure`.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: no JSON at all.
    """
    if not data.isascii():
        # Values that no struct looks into are not checked by the decoder.
        data.decode()
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if len(data) > _LONGEST_MENDED or not 0 < len(_ODD.findall(data)) <= _MOST_ODD:
            raise
        return decoder.decode(_TOKEN.sub(_mend, data))


def check_values(data: bytes) -> None:
    """Check, before it is decoded, that JSON holds no more values than any answer does.

    Raises:
        UpstreamFailure: it does.
    """
    # Commas and brackets in texts count as well: not so many are in anything that a model writes.
    if (
        len(data) > 2 * _MAX_VALUES
        and data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_VALUES
    ):
        raise malformed("", f"holds more than {_MAX_VALUES} values")


def convert(value: Any, shape: type[_T], where: str) -> _T:
    """Return a decoded value as a struct; `where` is its path in the answer.

    Raises:
        UpstreamFailure: it is of another shape.
    """
    try:
        return msgspec.convert(value, shape, strict=False)
    except msgspec.ValidationError as err:
        raise malformed_failure(err, where) from None


def loose_object(raw: bytes | msgspec.Raw) -> JsonObject:
    """Return a JSON object; without the members that hold numbers out of range, and empty for anything else."""
    data = bytes(raw)
    try:
        value = decode(_ANYTHING, data)
    except msgspec.ValidationError:
        return _readable_members(data)
    except NOT_JSON:
        return {}
    return value if isinstance(value, dict) else {}


def is_other_than_object(err: msgspec.ValidationError) -> bool:
    """Return whether the whole is not a JSON object, as opposed to a mistake inside it."""
    return " - at `" not in str(err)


def malformed_failure(err: msgspec.ValidationError, where: str = "") -> UpstreamFailure:
    """Return the failure for a malformed answer; it names the field for the caller, without its value."""
    match = _PROBLEM.fullmatch(str(err))
    assert match is not None, "it matches anything"
    problem, path = match[1], where + (match[2] or "")
    if expected := _EXPECTED.match(problem):
        wanted = " or ".join(_NAMES.get(name, name) for name in expected[1].split(" | "))
        problem = f"is {_NAMES.get(expected[2], expected[2])} instead of {wanted}"
    elif "out of range" in problem:
        problem = "is a number that is out of range"
    else:
        problem = "cannot be read"
    return malformed(path.removeprefix("."), problem)


def malformed(path: str, problem: str) -> UpstreamFailure:
    """Return the failure for an answer with something in it that cannot be what it stands for.

    Another try would be paid for again and come out the same, so only another candidate is asked.
    """
    path = "".join(character for character in path if character.isprintable())[:_LONGEST_PATH]
    failure = UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_ERROR,
        f"The provider's answer is malformed: {path or 'it'} {problem}.",
        fall_back=True,
        http_status=200,
    )
    failure.may_be_billed = True
    return failure


def check_depth(value: Any, where: str) -> None:
    """Check that a value which is passed on as it came can be encoded and read by everybody.

    Raises:
        UpstreamFailure: it is nested too deeply.
    """
    if _is_deeper(value, MAX_DEPTH):
        raise malformed(where, f"is nested more than {MAX_DEPTH} levels deep")


def check_calls(count: int, where: str) -> None:
    """Check, before they are converted, that a choice has no more tool calls than any answer does.

    Raises:
        UpstreamFailure: it has.
    """
    if count > MAX_TOOL_CALLS:
        raise malformed(where, f"holds more than {MAX_TOOL_CALLS} tool calls")


def _readable_members(data: bytes) -> JsonObject:
    try:
        members = decode(_MEMBERS, data)
    except NOT_JSON:
        return {}
    readable: JsonObject = {}
    for name, member in members.items():
        with contextlib.suppress(*NOT_JSON):
            readable[name] = _ANYTHING.decode(member)
    return readable


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)


def _mend(match: re.Match[bytes]) -> bytes:
    token = match[0]
    if token in _NO_NUMBERS:
        return b"null"
    return _ESCAPE.sub(_mend_escape, token) if token[0] == 0x22 else token


def _mend_escape(match: re.Match[bytes]) -> bytes:
    return match[0] if match["half"] is None else rb"\ufffd"
