"""The size of an image in pixels, read from its first bytes: PNG, JPEG, GIF and WebP."""

from __future__ import annotations

import struct

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
# Frames of every kind, and neither the tables nor the extensions that share their range.
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})

Size = tuple[int, int]
"""Width and height."""


def image_size(data: bytes) -> Size | None:
    """Return the size of the image that begins with these bytes; None: unknown, or they are too few."""
    try:
        if data.startswith(_PNG):
            size = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        elif data.startswith(_GIF):
            size = _gif(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (size[0], size[1]) if size[0] and size[1] else None


def _jpeg(data: bytes) -> Size | None:
    position = 2
    while True:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_ALONE:
            position += 2
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            # A height of 0 means that the height follows the first lines.
            return (width, height) if width and height else None
        else:
            position += 2 + int(struct.unpack_from(">H", data, position + 2)[0])


def _gif(data: bytes) -> Size:
    """Return the size that holds the screen and the first frame, which may be larger."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_colours(flags)
    while data[position] == ord("!"):
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    if data[position] == ord(","):
        left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
        width, height = max(width, left + frame_width), max(height, top + frame_height)
    return width, height


def _gif_colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Size | None:
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            return (width + 1, height + 1) if len(data) >= 30 else None
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return (width & 0x3FFF, height & 0x3FFF) if width and height else None
        case _:
            return None
