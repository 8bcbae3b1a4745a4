"""Undo a Content-Encoding piece by piece, in bounded memory."""

from __future__ import annotations

import zlib

MAX_PIECE_BYTES = 1_048_576
"""Most bytes one `take()` returns, whatever the compression ratio claims."""

_GZIP = 16 + zlib.MAX_WBITS
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def is_identity(coding: str) -> bool:
    """Tell whether a Content-Encoding value leaves the body as it is."""
    return coding.strip().lower() in {"", "identity"}


class ContentDecoder:
    """Decompresses one body: `feed()` what arrived, then `take()` until it returns `b""`."""

    def __init__(self, coding: str, *, may_be_empty: bool = True) -> None:
        """Start at the first byte of a body; without framing an empty one may be a cut one.

        Raises:
            ValueError: the coding is not one this can undo.

        """
        self._coding = coding.strip().lower()
        if self._coding not in _CODINGS:
            raise ValueError(f"cannot decode content-encoding {coding[:40]!r}")
        self._input = b""
        self._inflater: zlib._Decompress | None = None
        self._started = False
        self._may_be_empty = may_be_empty
        # A piece of the full size may have left output inside zlib although no input is left.
        self._is_full = False

    @property
    def is_complete(self) -> bool:
        """Whether a body may end here: after whole members, or perhaps with no byte at all."""
        is_between = self._inflater is None and not self._input
        return is_between and (self._started or self._may_be_empty)

    def feed(self, data: bytes) -> None:
        """Add compressed bytes."""
        self._input = self._input + data if self._input else data

    def take(self) -> bytes:
        """Return decompressed bytes, `b""` once more input is needed.

        Raises:
            zlib.error: the data is corrupt.

        """
        while self._input or self._is_full:
            inflater = self._inflater
            if inflater is None:
                inflater = self._next_member()
                if inflater is None:
                    break
            piece = inflater.decompress(self._input, MAX_PIECE_BYTES)
            if inflater.eof:
                self._inflater = None
                self._is_full = False
                self._input = inflater.unused_data
            else:
                self._is_full = len(piece) == MAX_PIECE_BYTES
                self._input = inflater.unconsumed_tail
            if piece:
                return piece
        return b""

    def _next_member(self) -> zlib._Decompress | None:
        if self._started:
            # Padding with zeros is what gzip itself tolerates after a member.
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return None
            if self._coding == "deflate":
                raise zlib.error("bytes after the end of the deflate stream")
        self._started = True
        window = _GZIP
        if self._coding == "deflate":
            # Servers disagree whether "deflate" has the zlib header, whose low nibble is 8.
            # A raw stream does not start so: low bits 000 say "stored block", and every encoder
            # pads those with zeros up to the byte boundary.
            window = zlib.MAX_WBITS if self._input[0] & 0x0F == 8 else -zlib.MAX_WBITS
        self._inflater = zlib.decompressobj(window)
        return self._inflater
