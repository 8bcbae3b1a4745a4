"""Where a recorded stream is cut or parted."""

from __future__ import annotations

_ALL_BELOW = 16_000
_STEP = 11
_AROUND_A_LINE = 3


def offsets(body: bytes) -> list[int]:
    """Return every offset; of long bodies every eleventh and all around the ends of lines, for the sake of time."""
    if len(body) < _ALL_BELOW:
        return list(range(len(body) + 1))
    chosen = set(range(0, len(body) + 1, _STEP)) | {len(body)}
    for end in (at for at, byte in enumerate(body) if byte == ord("\n")):
        chosen.update(range(end - _AROUND_A_LINE, end + _AROUND_A_LINE + 1))
    return sorted(at for at in chosen if 0 <= at <= len(body))
