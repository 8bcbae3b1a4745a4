"""The text for a custom tool, out of the arguments of the function that stands for it: `{"input": "..."}`.

It is read as it comes. Pieces may break anywhere, in an escape or between the halves of a character, and the text is the
same. Only arguments that begin as they were asked for are read so; the text of others is known at their end.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_ASKED = '{"input":"'
_OPENING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Escapes that are none stand for their letter.
_TOKEN = re.compile(
    r'([^"\\]+)|\\u([0-9a-fA-F]{4})|\\(u)(?=[0-9a-fA-F]{0,3}[^0-9a-fA-F])|\\([^u])', re.DOTALL
)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LOST = "\ufffd"


class CustomInput:
    """Reads the arguments of one call."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        """All arguments, until they have begun as they should."""
        self._is_other = False
        """Whether they have begun in another way."""
        self._is_text = False
        """Whether the text has begun."""
        self._waiting = ""
        """What follows the text that was read."""
        self._half = ""
        """Of a character whose other half may follow."""

    def add(self, arguments: str) -> str:
        """Return the text that a piece of the arguments adds."""
        if self._is_text:
            return self._read(self._waiting + arguments)
        self._pieces.append(arguments)
        if self._is_other:
            return ""
        begun = "".join(self._pieces)
        if opening := _OPENING.match(begun):
            self._is_text = True
            return self._read(begun[opening.end() :])
        self._is_other = not _ASKED.startswith("".join(begun.split()))
        return ""

    def end(self) -> str:
        """Return the text that the end of the arguments adds."""
        return self._lost_half() if self._is_text else _otherwise("".join(self._pieces))

    def _read(self, text: str) -> str:
        read: list[str] = []
        position = 0
        # It stops at the closing quote, and at an escape that has not come to its end.
        while token := _TOKEN.match(text, position):
            position = token.end()
            plain, code, no_code, letter = token.groups()
            if code is not None:
                read.append(self._unit(int(code, 16)))
            else:
                read += (self._lost_half(), plain or no_code or _SHORT.get(letter, letter))
        self._waiting = text[position:]
        return "".join(read)

    def _unit(self, code: int) -> str:
        """Return the text of a UTF-16 unit, and of the half before it."""
        if 0xDC00 <= code < 0xE000 and self._half:
            pair, self._half = self._half + chr(code), ""
            return pair.encode("utf-16", "surrogatepass").decode("utf-16")
        lost = self._lost_half()
        if 0xD800 <= code < 0xDC00:
            self._half = chr(code)
            return lost
        return lost + (_LOST if 0xDC00 <= code < 0xE000 else chr(code))

    def _lost_half(self) -> str:
        half, self._half = self._half, ""
        return _LOST if half else ""


def _otherwise(arguments: str) -> str:
    try:
        value = _decode(arguments).get("input")
    except msgspec.DecodeError:
        value = None
    return value if isinstance(value, str) else arguments
