"""The response as its caller holds it: bytes that have arrived, and how the rest went."""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

from msgspec import UNSET, UnsetType

from maniac_core.providers.transport.base import TransportError, TransportErrorKind
from maniac_core.providers.transport.content import ContentDecoder


class ResponseSource(Protocol):
    """The interface that a response needs of the connection it is still arriving on."""

    def wait(self, timeout_s: float | None, *, is_poll: bool = False) -> asyncio.Future[None]:
        """Return a future that ends at the next progress, failure or timeout."""

    def resume(self) -> None:
        """Go on reading after the buffer was drained."""

    def abort(self) -> None:
        """Drop the connection."""


class HttpResponse:
    """Implements `UpstreamResponse`.

    The connection fills `status`, `headers`, `chunks`, `buffered`, `ended` and `error`; it sets
    `source` to None as soon as no more can arrive, and may then carry another exchange.
    """

    __slots__ = (
        "_idle_s",
        "buffered",
        "chunks",
        "decoder",
        "ended",
        "error",
        "headers",
        "is_stale",
        "origin",
        "source",
        "status",
        "timed_out",
    )

    def __init__(self, origin: str, source: ResponseSource, idle_s: float | None) -> None:
        self.origin = origin
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.buffered = 0
        self.ended = False
        self.error: TransportError | None = None
        self.source: ResponseSource | None = source
        self.decoder: ContentDecoder | None = None
        self.is_stale = False
        self.timed_out = False
        self._idle_s = idle_s

    async def read(self, timeout_s: float | UnsetType | None = UNSET) -> bytes:
        """See `UpstreamResponse.read`."""
        data = self.read_nowait()
        while data is None:
            await self._progress(timeout_s)
            data = self.read_nowait()
        return data

    def read_nowait(self) -> bytes | None:
        """See `UpstreamResponse.read_nowait`."""
        if self.decoder is not None:
            data = self._take_decoded(self.decoder)
            if data:
                return data
        elif self.chunks:
            return self._take_raw()
        if self.error is not None:
            raise self.error
        return b"" if self.ended else None

    async def read_all(self, limit: int) -> bytes:
        """See `UpstreamResponse.read_all`."""
        parts: list[bytes] = []
        size = 0
        while True:
            data = self.read_nowait()
            if data is None:
                await self._progress(UNSET)
            elif data:
                size += len(data)
                if size > limit:
                    self.close()
                    raise self._failure(
                        TransportErrorKind.BODY_TOO_LARGE, f"body exceeds {limit} bytes"
                    )
                parts.append(data)
                if self.decoder is not None:
                    # Nothing was waited for: a small input may become very much output.
                    await asyncio.sleep(0)
            else:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """See `UpstreamResponse.close`."""
        if self.source is not None:
            self.source.abort()
            self.source = None
        self.chunks.clear()
        self.buffered = 0
        self.decoder = None
        self.error = self._failure(TransportErrorKind.CLOSED, "response is closed")

    async def _progress(self, timeout_s: float | UnsetType | None) -> None:
        """Wait for anything to happen to the body; cancelling drops the connection."""
        source = self.source
        assert source is not None, "a body that can still make progress has a connection"
        try:
            if isinstance(timeout_s, UnsetType):
                await source.wait(self._idle_s)
            else:
                await source.wait(timeout_s, is_poll=True)
        except asyncio.CancelledError:
            self.close()
            raise
        if self.timed_out:
            self.timed_out = False
            raise self._failure(
                TransportErrorKind.IDLE_TIMEOUT, f"no body bytes within {timeout_s} s"
            )

    def _take_raw(self) -> bytes:
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.buffered = 0
        if self.source is not None:
            self.source.resume()
        return data

    def _take_decoded(self, decoder: ContentDecoder) -> bytes:
        try:
            data = decoder.take()
            # Only when it has used up what it got: a small input may become very much output.
            if not data and self.chunks:
                decoder.feed(self._take_raw())
                data = decoder.take()
        except zlib.error as error:
            self.close()
            self.error = self._failure(
                TransportErrorKind.PROTOCOL, f"compressed body is corrupt: {error}"
            )
            raise self.error from error
        if not data and self.ended and not decoder.is_complete:
            self.error = self._failure(
                TransportErrorKind.TRUNCATED, "body ended inside its compressed data"
            )
        return data

    def _failure(self, kind: TransportErrorKind, what: str) -> TransportError:
        return TransportError(kind, f"{self.origin}: {what}", sent=True)
