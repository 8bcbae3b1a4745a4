"""Streams on OpenAI's wire for tests: their chunks, and what the decoder makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from maniac_core.domain.chat import Choice
from maniac_core.providers.base import StreamEnd, StreamItem
from maniac_core.providers.openai.stream import OpenAIStreamDecoder
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEDecoder

DONE = b"data: [DONE]\n\n"


def chunk(
    delta: dict[str, Any] | None = None,
    *,
    finish: str | None = None,
    index: int | None = 0,
    **keys: Any,
) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    value = {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **keys}
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def run(*pieces: bytes) -> tuple[list[StreamItem], OpenAIStreamDecoder]:
    sse, decoder = SSEDecoder(), OpenAIStreamDecoder()
    items: list[StreamItem] = []
    for piece in pieces:
        for one in sse.feed(piece):
            items += decoder.feed(one)
    for one in sse.finish():
        items += decoder.feed(one)
    return items + decoder.finish(), decoder


def whole(items: Iterable[StreamItem]) -> list[Choice]:
    folded = Accumulator()
    folded.add_all(items)
    return folded.choices()


def only(*pieces: bytes) -> Choice:
    """The one choice of a stream that ended well."""
    items, decoder = run(*pieces)
    assert items[-1] == StreamEnd()
    assert decoder.malformed == 0
    (choice,) = whole(items)
    return choice
