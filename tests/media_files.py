"""Images and documents as small as they can be, with the sizes and pages that tests ask for."""

from __future__ import annotations

import base64
import struct
import zlib


def png(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def jpeg(width: int, height: int, *, profile: int = 0) -> bytes:
    """`profile`: bytes of other segments before the one that tells the size."""
    segments = b""
    while profile > 0:
        part = min(profile, 65_000)
        # What looks like a frame inside of a segment is none.
        inside = b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01".ljust(part, b"\x00")
        segments += b"\xff\xe2" + struct.pack(">H", part + 2) + inside
        profile -= part
    tables = b"\xff\xdb\x00\x43" + bytes(65) + b"\xff\xc4\x00\x04\x00\x00"
    frame = b"\xff\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + bytes(10)
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(9) + segments + tables + frame


def gif(width: int, height: int, *, screen: tuple[int, int] | None = None) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *(screen or (width, height)), 0x80, 0, 0) + bytes(6)
    return head + b"!\xf9\x04\0\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)


def webp(width: int, height: int, kind: str) -> bytes:
    match kind:
        case "VP8X":
            body = bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        case "VP8L":
            body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
        case _:
            body = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = kind.encode().ljust(4) + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def pdf(pages: int, *, is_compressed: bool = False, extra: bytes = b"") -> bytes:
    """`is_compressed`: as most programs write it now, with the pages in object streams."""
    kids = b" ".join(b"%d 0 R" % (10 + number) for number in range(pages))
    objects = [b"<</Type /Pages/Kids[%b]/Count %d>>" % (kids, pages)]
    objects += [b"<</Type/Page /Parent 2 0 R/MediaBox[0 0 612 792]>>"] * pages
    if not is_compressed:
        body = b"".join(b"%d 0 obj%b endobj\n" % (i, text) for i, text in enumerate(objects, 2))
    else:
        packed = zlib.compress(b" ".join(objects))
        head = b"<</Type/ObjStm/N %d/First 0/Filter/FlateDecode/Length %d>>"
        body = b"3 0 obj" + head % (len(objects), len(packed))
        body += b"stream\r\n" + packed + b"\r\nendstream endobj\n"
    drawn = zlib.compress(b"/Type /Page /Type /Page /Count 9")
    content = b"9 0 obj<</Filter/FlateDecode/Length %d>>stream\n%b\nendstream endobj\n"
    content %= (len(drawn), drawn)
    return b"%PDF-1.7\n" + content + body + extra + b"trailer<</Root 1 0 R>>\n%%EOF"


def data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def image_part(url: str, detail: str | None = None) -> dict[str, object]:
    image = {"url": url} if detail is None else {"url": url, "detail": detail}
    return {"type": "image_url", "image_url": image}


def file_part(url: str) -> dict[str, object]:
    return {"type": "file", "file": {"file_data": url, "filename": "a.pdf"}}
