"""How many values a JSON text has and how deep it is nested, found before anything decodes it.

What a decoder makes of a text can be a hundred times as large, and take as much longer as copying it. Strings are
skipped exactly; whether the text is JSON at all is for the decoder to say.
"""

from __future__ import annotations

from maniac_edge.errors import EdgeError

_QUOTE_COMMA_BRACKETS = frozenset(b'",[]{}')
_DELETE = bytes(byte for byte in range(256) if byte not in _QUOTE_COMMA_BRACKETS)
# Which of them matches which is for the decoder.
_ONE_KIND = bytes.maketrans(b"[]", b"{}")


class JsonStructure:
    """Measures one text, piece by piece. Cheap bounds come first: most texts are measured by nothing else."""

    def __init__(self, max_values: int, max_depth: int) -> None:
        self._max_values = max_values
        self._max_depth = max_depth
        self._values = 1
        self._rest = b""
        """A backslash at the end of the last piece: what it escapes is in the next one."""
        self._is_in_string = False
        self._open = b""
        """Brackets that are open, in their order."""

    def is_within(self, text: bytes) -> bool:
        """Whether a whole text is certain to be within the limits."""
        # A value takes two bytes with its comma.
        openings = text.count(b"[") + text.count(b"{")
        return openings <= self._max_depth and (
            len(text) < 2 * self._max_values or openings + text.count(b",") < self._max_values
        )

    def feed(self, piece: bytes) -> None:
        """Measure the next piece.

        Raises:
            EdgeError: PAYLOAD_TOO_LARGE for too many values, INVALID_JSON for too deep a nesting.
        """
        marks = self._marks(piece)
        self._values += marks.count(b",") + marks.count(b"{")
        if self._values > self._max_values:
            raise EdgeError(
                "PAYLOAD_TOO_LARGE",
                f"The JSON has more than {self._max_values} values (max_json_values).",
            )
        brackets = self._open + marks.replace(b",", b"")
        for _ in range(self._max_depth):
            size = len(brackets)
            # A pass takes away what has nothing in it: the innermost level.
            brackets = brackets.replace(b"{}", b"")
            if len(brackets) == size:
                break
        else:
            if brackets:
                raise self._too_deep()
        if len(brackets) > self._max_depth and b"}" not in brackets:
            raise self._too_deep()
        # Closing brackets that close nothing make it no JSON; the decoder says so.
        self._open = brackets[-self._max_depth :]

    def _marks(self, piece: bytes) -> bytes:
        """Return the commas and brackets outside of strings."""
        marks = self._without_escapes(piece).translate(_ONE_KIND, _DELETE)
        # Two quotes that follow each other change nothing for what is behind them.
        parts = marks.replace(b'""', b"").split(b'"')
        outside = b"".join(parts[self._is_in_string :: 2])
        if len(parts) % 2 == 0:
            self._is_in_string = not self._is_in_string
        return outside

    def _without_escapes(self, piece: bytes) -> bytes:
        first, *parts = (self._rest + piece).split(b"\\")
        kept = [first]
        is_escaped = False
        for part in parts:
            if is_escaped:
                kept.append(part)
                is_escaped = False
            elif part:
                kept.append(part[1:])
            else:
                # The next backslash is what this one escapes.
                is_escaped = True
        self._rest = b"\\" if is_escaped else b""
        return b"".join(kept)

    def _too_deep(self) -> EdgeError:
        return EdgeError(
            "INVALID_JSON",
            f"The JSON is nested too deeply: more than {self._max_depth} levels (max_json_depth).",
        )
