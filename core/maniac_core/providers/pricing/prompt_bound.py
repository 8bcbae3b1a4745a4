"""The most tokens that a prompt can have, for reserving: never fewer than the provider will count.

Text: a tokenizer that works on bytes, as those of all current models do in the end, makes a token of one byte at least,
so a text has at most as many tokens as bytes. Digits between commas, small numbers in JSON, or rare scripts come near
to that. In prose it is certain to be less: two common small letters side by side are a token in every vocabulary that
is known, so no two of them stay apart, and of three letters at least two are joined. Only pieces that are prose for
the most part are counted so.

Images, pages and sound are counted by `media_rules`; their data is not text.
"""

from __future__ import annotations

import binascii
import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.pricing.image_size import image_size
from maniac_core.providers.pricing.media_rules import Family, family_of
from maniac_core.providers.pricing.pdf_pages import pdf_pages
from maniac_core.providers.translation.parameters import plain

REQUEST_TOKENS = 64
MESSAGE_TOKENS = 16
"""The frame of a message: its role, and the marks around it."""
TOOLS_TOKENS = 1_024
"""What a provider says to the model about tools, or about a form of the answer, beside what the caller wrote."""
_FRAMED_PARAMETERS = frozenset({"tools", "functions", "response_format"})
# Numbers and switches: they are not shown to the model.
_UNREAD_PARAMETERS = frozenset(
    {
        *("temperature", "top_p", "top_k", "seed", "max_tokens", "max_completion_tokens"),
        *("presence_penalty", "frequency_penalty", "parallel_tool_calls", "service_tier"),
        *("reasoning_effort", "stream_options", "user", "logit_bias"),
    }
)
_PIECE = 512
_LEAST_READ = 1024
"""Bytes. Of what is shorter, looking closer costs more than it saves."""
_MOST_READ = 1024 * 1024
# Every pair of these letters is a token of cl100k, o200k, Claude's and DeepSeek's vocabularies, as is a space and one.
_COMMON = b"abcdefhilnoprstuv"
_MARKS = bytes.maketrans(
    bytes(range(256)),
    bytes(
        _COMMON[0]
        if byte in _COMMON
        else byte
        if byte == ord(" ")
        else ord(".")
        if ord("a") <= byte <= ord("z")
        else ord("|")
        for byte in range(256)
    ),
)
_PREFIX = 64 * 1024 // 3 * 4
"""Characters of base64: this much of a file nearly always contains the size of an image."""
_LEAST_AUDIO_BYTES = 500
"""Of a second: what speech is compressed to at the most."""
_MOST_PAGES = 1_000
"""Of a document that a provider takes."""


class UnboundedError(Exception):
    """A part of a prompt may have any number of tokens."""

    def __init__(self, param: str, what: str) -> None:
        super().__init__(what)
        self.param = param
        self.what = what


def most_prompt_tokens(
    model: str, messages: Iterable[JsonObject], parameters: Mapping[str, Any]
) -> int:
    """Return the most tokens that a prompt can have, tools and schemas included. `model` is the provider's name of it.

    Raises:
        UnboundedError: what a part refers to is not in the request.
    """
    family = family_of(model)
    tokens = REQUEST_TOKENS
    for position, message in enumerate(messages):
        tokens += MESSAGE_TOKENS + _message(family, message, position)
    for key, value in parameters.items():
        if value is None or key in _UNREAD_PARAMETERS:
            continue
        tokens += _json(value)
        if key in _FRAMED_PARAMETERS:
            tokens += TOOLS_TOKENS
    return tokens


def most_text_tokens(text: str | bytes) -> int:
    """Return the most tokens that a text can have."""
    if len(text) < _LEAST_READ and text.isascii():
        return len(text)
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    tokens = len(data)
    if tokens < _LEAST_READ:
        return tokens
    # Others wait meanwhile: of a longer text only the beginning is looked at.
    for start in range(0, min(len(data), _MOST_READ), _PIECE):
        piece = data[start : start + _PIECE].translate(_MARKS)
        if piece.count(b"|") * 4 <= len(piece):
            # A space belongs to the word behind it, and to none before.
            tokens -= piece.replace(b" a", b"|aa").count(b"aaa")
    return tokens


def media_tokens(family: Family, part: JsonObject) -> int:
    """Return the tokens of the image or the file in a part; of a file that is only named, those of a page."""
    try:
        return sum(
            _part(family, {key: part[key]}, "") for key in ("image_url", "file") if key in part
        )
    except UnboundedError:
        return family.page


def has_documents(messages: Iterable[JsonObject]) -> bool:
    """Whether a prompt has files, which take a while to read."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list) and any(
            isinstance(part, dict) and "file" in part for part in content
        ):
            return True
    return False


def _message(family: Family, message: JsonObject, number: int) -> int:
    tokens = 0
    for key, value in message.items():
        if value is None or key == "role":
            continue
        if key == "content" and isinstance(value, list):
            for position, part in enumerate(value):
                tokens += _part(family, part, f"messages[{number}].content[{position}]")
        elif key == "audio":
            raise UnboundedError(
                f"messages[{number}].audio", "names an earlier answer of unknown length"
            )
        elif isinstance(value, str):
            tokens += most_text_tokens(value)
        else:
            tokens += _json(value)
    return tokens


def _part(family: Family, part: Any, param: str) -> int:
    if not isinstance(part, dict):
        return _json(part)
    tokens = 0
    # Whatever its type is: what a provider makes of a part that has several of them is not known.
    for key, value in part.items():
        match key:
            case "type":
                pass
            case "image_url":
                tokens += _image(family, plain(value))
            case "file":
                tokens += _file(family, plain(value), f"{param}.file")
            case _:
                tokens += most_text_tokens(value) if isinstance(value, str) else _json(value)
    return tokens


def _image(family: Family, image: Any) -> int:
    url, detail = image, None
    if isinstance(image, dict):
        url, detail = plain(image.get("url")), plain(image.get("detail"))
    is_low = detail == "low"
    if not isinstance(url, str) or _is_remote(url):
        return family.image(None, is_low=is_low)
    return _inline(family, url, is_low=is_low)


def _file(family: Family, file: Any, param: str) -> int:
    url = plain(file.get("file_data")) if isinstance(file, dict) else None
    if not isinstance(url, str) or _is_remote(url):
        raise UnboundedError(param, "is given by reference and not as a base64 data URL")
    return _inline(family, url, is_low=False) + most_text_tokens(str(file.get("filename") or ""))


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def _json(value: Any) -> int:
    return most_text_tokens(msgspec.json.encode(value))


def _inline(family: Family, url: str, *, is_low: bool) -> int:
    """Return the most tokens of a file in a data URL, or in base64 alone."""
    head, _, body = url.partition(",") if url[:5].lower() == "data:" else ("", "", url)
    media_type = head[5:].partition(";")[0].strip().lower()
    data = _decoded(body[:_PREFIX])
    size = image_size(data)
    if size is None and len(body) > _PREFIX:
        data = _decoded(body)
        size = image_size(data)
    if size is not None:
        return family.image(size, is_low=is_low)
    if media_type.startswith("image/"):
        return family.image(None, is_low=False)
    if media_type == "application/pdf" or b"%PDF-" in data[:1024]:
        return family.page * (pdf_pages(data) or min(_MOST_PAGES, max(1, len(body))))
    if media_type.startswith("audio/"):
        return _audio(family, data, len(body))
    return max(len(body), _unpacked(data))


def _decoded(body: str) -> bytes:
    try:
        return binascii.a2b_base64(body.encode(errors="replace"))
    except binascii.Error:
        return b""


def _audio(family: Family, data: bytes, size: int) -> int:
    rate = _LEAST_AUDIO_BYTES
    if data[:4] == b"RIFF" and data[8:16] == b"WAVEfmt ":
        # Bytes per second: as the file says, but no more than its samples need.
        per_second, claimed, align = struct.unpack_from("<IIH", data.ljust(34, b"\0"), 24)
        rate = max(rate, min(claimed, per_second * align))
    return (size // rate + 1) * family.second


def _unpacked(data: bytes) -> int:
    """Return how large what an archive holds is, as office documents are some; 0 for other files."""
    if not data.startswith(b"PK"):
        return 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return 0
