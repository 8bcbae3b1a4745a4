"""Reads the body of a registration as it arrives: `{"container": …, "items": […]}`, one item after the other.

Only where an item begins and ends is found here; its inside is for a decoder to judge, so that a bad item can fail
alone. What is held is one item and the piece of the body that was fed last.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import TypeAlias

import msgspec

from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import validation_error
from maniac_edge.schemas.common import FieldError

Item: TypeAlias = "bytes | None"
"""The JSON text of an item; None for one above the limit."""

_BLANK = re.compile(rb"[ \t\n\r]*+")
_IN_CONTAINER = re.compile(rb'["{}\[\]]')
_BETWEEN = re.compile(rb'["{}\[\],]')
_OTHER_VALUES = b'["-0123456789tfn'
_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_OPENING, _CLOSING = frozenset(b"{["), frozenset(b"}]")
_MAX_NAME_BYTES = 4096
_as_text = msgspec.json.Decoder(str).decode


class ItemStream:
    """One body. The keys may come in either order; any other key is refused."""

    def __init__(self, max_item_bytes: int) -> None:
        self.container: str | None = None
        """Set once it has been read."""
        self._max_item_bytes = max_item_bytes
        self._buffer = bytearray()
        self._at = 0
        """What is before it has been looked at."""
        self._kept_from: int | None = None
        """Where what must stay in the buffer begins; None: at `_at`."""
        self._has_items = False
        self._is_whole = False
        # False asks for more data; a tuple carries an item.
        self._steps: Iterator[tuple[Item] | None] = self._body()

    def feed(self, data: bytes) -> Generator[Item, None, None]:
        """Take the next piece of the body and yield the items that end in it.

        Raises:
            EdgeError: INVALID_JSON, or VALIDATION_ERROR for the object around the items.
        """
        start = self._at if self._kept_from is None else self._kept_from
        del self._buffer[:start]
        self._at -= start
        if self._kept_from is not None:
            self._kept_from = 0
        self._buffer += data
        for step in self._steps:
            if step is None:
                return
            yield step[0]

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            EdgeError: INVALID_JSON, or VALIDATION_ERROR naming what is missing.
        """
        if not self._is_whole:
            raise _malformed("it ends too early")
        given = {"container": self.container is not None, "items": self._has_items}
        missing = [
            FieldError(loc=["body", name], msg="Field required.", type="missing")
            for name, is_given in given.items()
            if not is_given
        ]
        if missing:
            raise validation_error(missing)

    def _body(self) -> Generator[tuple[Item] | None, None, None]:
        opening = yield from self._next()
        if opening != b"{"[0]:
            if opening in _OTHER_VALUES:
                raise _refused([], "Must be an object.", "dict_type")
            raise _malformed("invalid character")
        self._at += 1
        char = yield from self._next()
        while char != b"}"[0]:
            yield from self._member()
            char = yield from self._next()
            if char == _COMMA:
                self._at += 1
                char = yield from self._next()
                if char == b"}"[0]:
                    raise _malformed("trailing comma in object")
            elif char != b"}"[0]:
                raise _malformed("expected ',' or '}'")
        self._at += 1
        self._is_whole = True
        yield from self._next()
        raise _malformed("trailing characters")

    def _member(self) -> Generator[tuple[Item] | None, None, None]:
        name = yield from self._text("a key")
        if (yield from self._next()) != _COLON:
            raise _malformed("expected ':'")
        self._at += 1
        opening = yield from self._next()
        if name == "container":
            if self.container is not None:
                raise _refused([name], "Is given more than once.", "value_error")
            if opening != _QUOTE:
                raise _wrong_type(name, opening, "a string", "string_type")
            self.container = yield from self._text("container")
        elif name == "items":
            if self._has_items:
                raise _refused([name], "Is given more than once.", "value_error")
            if opening != b"["[0]:
                raise _wrong_type(name, opening, "an array", "list_type")
            self._has_items = True
            self._at += 1
            yield from self._items()
        else:
            raise _refused([name], "Extra inputs are not permitted.", "extra_forbidden")

    def _items(self) -> Generator[tuple[Item] | None, None, None]:
        is_first = True
        end = _COMMA
        while end == _COMMA:
            self._kept_from = self._at
            end = yield from self._to_end_of_item()
            text: Item = None
            if self._kept_from is not None:
                text = bytes(self._buffer[self._kept_from : self._at]).strip()
                self._kept_from = None
                if not text:
                    if is_first and end != _COMMA:
                        self._at += 1
                        return
                    raise _malformed("an item is missing")
            is_first = False
            # Bytes before the item are no longer needed, and the next piece may take long.
            self._at += 1
            yield (text,)

    def _to_end_of_item(self) -> Generator[tuple[Item] | None, None, int]:
        """Go to the comma or the bracket behind the item, and return it."""
        depth = 0
        while True:
            found = (_IN_CONTAINER if depth else _BETWEEN).search(self._buffer, self._at)
            if found is None:
                self._at = len(self._buffer)
                self._drop_if_too_large()
                yield None
                continue
            self._at = found.start()
            char = self._buffer[self._at]
            if char == _QUOTE:
                self._at += 1
                yield from self._to_end_of_string()
                continue
            if char in _OPENING:
                depth += 1
            elif depth:
                depth -= 1
            elif char == b"}"[0]:
                raise _malformed("expected ',' or ']'")
            else:
                self._drop_if_too_large()
                return char
            self._at += 1

    def _to_end_of_string(self) -> Generator[tuple[Item] | None, None, None]:
        """Go behind the quote that closes a string."""
        is_escaped = False
        while True:
            end, is_escaped = _find_quote(self._buffer, self._at, is_escaped=is_escaped)
            if end is not None:
                self._at = end + 1
                return
            self._at = len(self._buffer)
            self._drop_if_too_large()
            yield None

    def _drop_if_too_large(self) -> None:
        if self._kept_from is not None and self._at - self._kept_from > self._max_item_bytes:
            self._kept_from = None

    def _text(self, what: str) -> Generator[tuple[Item] | None, None, str]:
        """Return a short string, and go behind it."""
        if (yield from self._next()) != _QUOTE:
            raise _malformed(f"expected {what}")
        self._kept_from = self._at
        is_escaped = False
        looked_at = self._at + 1
        while True:
            end, is_escaped = _find_quote(self._buffer, looked_at, is_escaped=is_escaped)
            if (len(self._buffer) if end is None else end) - self._kept_from > _MAX_NAME_BYTES:
                raise _malformed(f"{what} is too long")
            if end is not None:
                break
            size = len(self._buffer) - self._kept_from
            yield None
            looked_at = self._kept_from + size
        text = bytes(self._buffer[self._kept_from : end + 1])
        self._at = end + 1
        self._kept_from = None
        try:
            return _as_text(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _malformed(f"{what} is not a string") from None

    def _next(self) -> Generator[tuple[Item] | None, None, int]:
        """Return the next character that is not a blank, without consuming it."""
        while True:
            blank = _BLANK.match(self._buffer, self._at)
            assert blank is not None
            self._at = blank.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            yield None


def _find_quote(data: bytearray, start: int, *, is_escaped: bool) -> tuple[int | None, bool]:
    """Return where a string ends whose inside begins at `start`; or None, and whether the next byte is escaped."""
    if is_escaped and start == len(data):
        return None, True
    start += is_escaped
    while True:
        quote = data.find(b'"', start)
        end = len(data) if quote < 0 else quote
        first = end
        while first > start and data[first - 1] == _BACKSLASH:
            first -= 1
        is_odd = (end - first) % 2 == 1
        if quote < 0:
            return None, is_odd
        if not is_odd:
            return quote, False
        start = quote + 1


def _wrong_type(name: str, opening: int, kind: str, code: str) -> EdgeError:
    if opening == b"n"[0]:  # Null is the same as absent.
        return _refused([name], "Field required.", "missing")
    return _refused([name], f"Must be {kind}.", code)


def _refused(loc: list[str | int], message: str, kind: str) -> EdgeError:
    return validation_error([FieldError(loc=["body", *loc], msg=message, type=kind)])


def _malformed(problem: str) -> EdgeError:
    return EdgeError("INVALID_JSON", f"The request body is not valid JSON: {problem}.")
