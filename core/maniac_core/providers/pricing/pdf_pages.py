"""How many pages a PDF has, at most: counted in its objects, those in compressed object streams included."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

_MOST_INFLATED = 64 * 1024 * 1024
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,9})")
_KIDS = re.compile(rb"/Kids\s*\[([^\]]*)\]")
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
# What only other filters than the usual one have, and what changes the bytes besides.
_OTHER_FILTER = re.compile(rb"LZW|ASCII|RunLength|Crypt|/A85|/AHx|/RL\b|/Predictor\s+(?!1\b)\d")


class _UnreadableError(Exception):
    pass


def pdf_pages(data: bytes) -> int | None:
    """Return at least the number of pages of a PDF; None: it cannot be read, for it is encrypted, damaged or none.

    Pages of earlier versions of the document, which a file may still have, count too, and what looks like a page inside
    of a stream: the word that begins a stream can stand in a title or a comment as well.
    """
    objects = nodes = declared = 0
    try:
        for text in _texts(data):
            objects += len(_PAGE.findall(text))
            nodes += sum(kids.count(b"R") for kids in _KIDS.findall(text))
            declared = max(declared, *map(int, _COUNT.findall(text)), 0)
    except _UnreadableError:
        return None
    # Each may be missing, or wrong, without the document being of no use to a lenient reader.
    return max(objects, nodes, declared) or None


def _texts(data: bytes) -> Iterator[bytes]:
    """Yield what stands outside of streams and inside, and what object streams hold."""
    room = _MOST_INFLATED
    start = 0
    while True:
        begin = data.find(b"stream", start)
        end = data.find(b"endstream", begin) if begin >= 0 else -1
        text = _unescaped(data[start : begin if end >= 0 else len(data)])
        if b"/Encrypt" in text:
            raise _UnreadableError
        yield text
        if end < 0:
            return
        dictionary = text[text.rfind(b"obj") :]
        if b"/ObjStm" in dictionary:
            inflated = _inflated(dictionary, data[begin + len(b"stream") : end], room)
            room -= len(inflated)
            yield _unescaped(inflated)
        yield _unescaped(data[begin:end])
        start = end + len(b"endstream")


def _inflated(dictionary: bytes, body: bytes, room: int) -> bytes:
    if _OTHER_FILTER.search(dictionary):
        raise _UnreadableError
    body = body.lstrip(b"\r\n")
    if b"/Fl" not in dictionary:
        return body
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(body, max(room, 1))
    except zlib.error as err:
        raise _UnreadableError from err
    if inflater.unconsumed_tail:
        raise _UnreadableError
    return inflated


def _unescaped(text: bytes) -> bytes:
    """Return the text with names as they are meant: any letter of one may be written as its number."""
    if b"#" not in text:
        return text
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text)
