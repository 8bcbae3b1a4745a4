"""Header blocks as they come: one HEADERS frame, and the CONTINUATION frames that complete it."""

from __future__ import annotations

from maniac_common.hop import frames, hpack
from maniac_common.hop.frames import ConnectionFault, ErrorCode
from maniac_common.hop.hpack import Headers

MAX_HEADER_BYTES = 16 * 1024
"""Of one block, as sent and as decoded."""
# Each frame of a block but the last one should be full.
_MAX_FRAMES = 8


class HeaderBlocks:
    """The blocks of one connection, of which one at a time may be incomplete."""

    def __init__(self) -> None:
        self.number = 0
        """The stream whose block is not complete; 0: none."""
        self.is_last = False
        """Whether the block ends its stream."""
        self._decoder = hpack.Decoder(MAX_HEADER_BYTES)
        self._fragments: list[bytes] = []

    def begin(self, number: int, flags: int, payload: bytes) -> Headers | None:
        """Take a HEADERS frame; returns and raises as `go_on`."""
        self.number = number
        self.is_last = bool(flags & frames.END_STREAM)
        return self.go_on(flags, frames.without_padding(flags, payload))

    def go_on(self, flags: int, payload: bytes) -> Headers | None:
        """Take a further frame; return the headers if they are complete.

        Raises:
            ConnectionFault: they are too large or malformed, after which no other block can be decoded.
        """
        self._fragments.append(payload)
        if len(self._fragments) > _MAX_FRAMES or sum(map(len, self._fragments)) > MAX_HEADER_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the headers are too large")
        if not flags & frames.END_HEADERS:
            return None
        block = b"".join(self._fragments)
        self._fragments = []
        self.number = 0
        try:
            return self._decoder.decode(block)
        except hpack.TooLargeError as err:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(err)) from None
        except hpack.HpackError as err:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(err)) from None
