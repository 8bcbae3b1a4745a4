"""A streamed answer of a provider, read under its deadlines, as normalised items."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable

from maniac_core.domain.chat import Answer, delta_of
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import (
    NativeEvent,
    StreamDecoder,
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.translation.foreign_json import check_values
from maniac_core.providers.transport import TransportError, TransportErrorKind, UpstreamResponse
from maniac_core.providers.transport.sse import (
    Framing,
    FramingError,
    SSEDecoder,
    SSEEvent,
    event_bytes,
)
from maniac_core.providers.upstream.transport_failure import deadline_failure, transport_failure

_log = logging.getLogger(__name__)
_PIECE_BYTES = 32 * 1024
# Read without waiting before others have their turn.
_MOST_AT_ONCE = 256 * 1024
# Bounds the part of one answer that is kept in memory.
_MAX_STREAM_BYTES = 64 * 1024 * 1024
# Events cost far more than their bytes. The longest answers have one for each of some 100,000 tokens; of those that
# hold nothing for the caller (pings, tools that run at the provider, nonsense) there are far fewer, above all in a row.
_MAX_EVENTS = 1_000_000
_MAX_BARREN_EVENTS = 100_000
_MAX_BARREN_RUN = 10_000
# Smaller ones hold no more values than they may.
_LARGE_EVENT_BYTES = 256 * 1024
# How long the end marker is waited for when the finish reason and the usage have come, and when usage may yet come.
_GRACE_S = 1.0
_GRACE_WITHOUT_USAGE_S = 5.0


class UpstreamStream:
    """A streamed answer; its opener closes it."""

    def __init__(
        self,
        provider: str,
        response: UpstreamResponse | None,
        decoder: StreamDecoder | None,
        dropped: tuple[str, ...],
        *,
        started: float = 0.0,
        first_token_s: float = 0.0,
        idle_s: float = 0.0,
        total_s: float = 0.0,
        is_native: bool = False,
        framing: Framing | None = None,
        on_error: Callable[[UpstreamFailure], None] = lambda _: None,
    ) -> None:
        """`started` is monotonic seconds. `is_native`: whether events are wanted as they come.

        `framing` splits the bytes into events, None: server-sent ones. `on_error` receives errors that the provider
        reports in the stream.
        """
        self.dropped = dropped
        self.upstream_model: str | None = None
        self.is_complete = False
        self._provider = provider
        self._response = response
        self._decoder = decoder
        self._is_native = is_native
        self._on_error = on_error
        self._framing = framing or SSEDecoder()
        self._ready: list[StreamItem] = []
        self._has_begun = False
        self._received = 0
        self._rest = b""
        """Received and not looked at."""
        self._at_once = 0
        """Bytes that were there without waiting, since the others last had their turn."""
        self._events = 0
        self._barren = 0
        self._barren_run = 0
        self._first_token_s = first_token_s
        self._idle_s = idle_s
        self._total_s = total_s
        self._first_by: float | None = started + first_token_s
        self._total_by = started + total_s
        self._quiet_since = 0.0
        self._grace_s: float | None = None
        self._grace_by = math.inf

    @classmethod
    def of_answer(cls, provider: str, answer: Answer, dropped: tuple[str, ...]) -> UpstreamStream:
        """Return a stream that yields a whole answer at once."""
        stream = cls(provider, None, None, dropped)
        stream._ready = _items_of(answer)
        return stream

    @property
    def malformed(self) -> int:
        """The number of malformed events that were skipped."""
        return self._decoder.malformed if self._decoder is not None else 0

    def first_content_came(self) -> None:
        """From now on the idle deadline holds instead of that of the first token."""
        self._first_by = None

    async def next(self) -> list[StreamItem]:
        """Return the items that are ready together, waiting for at least one; empty at the end of a whole answer.

        Raises:
            UpstreamFailure: a deadline, a cut, an error in the stream. What came before it was returned before it.
        """
        # While the caller did not ask, the provider was not silent but waited for.
        self._quiet_since = time.monotonic()
        if self._grace_s is not None:
            self._grace_by = self._quiet_since + self._grace_s
        try:
            while not self.is_complete:
                if not self._ready:
                    self._feed(await self._read())
                    continue
                items, self._ready = self._ready, []
                if items := self._take(items):
                    self._has_begun = True
                    return items
        except UpstreamFailure as failure:
            failure.may_be_billed |= self._has_begun
            self.close()
            raise
        return []

    def close(self) -> None:
        """Stop reading; the provider sees the connection close."""
        if self._response is not None:
            self._response.close()

    def _take(self, items: list[StreamItem]) -> list[StreamItem]:
        for position, item in enumerate(items):
            kind = type(item)
            if kind is StreamModel:
                self.upstream_model = item.name  # type: ignore[union-attr]
            elif kind is StreamError:
                if position:
                    self._ready = items[position:]
                    return items[:position]
                failure: UpstreamFailure = item.failure  # type: ignore[union-attr]
                self._on_error(failure)
                raise failure
            elif kind is StreamEnd:
                # Later bytes do not belong to this answer, such as a second stream spliced on.
                self.is_complete = True
                self._finish()
                return items[:position]
        return items

    async def _read(self) -> bytes:
        response = self._response
        assert response is not None, "an answer that came whole needs no reading"
        now = time.monotonic()
        until, what, limit_s = min(
            (self._total_by, "did not finish within", self._total_s),
            (self._first_by, "sent no content within", self._first_token_s)
            if self._first_by is not None
            else (self._quiet_since + self._idle_s, "sent nothing for", self._idle_s),
        )
        # Checked also when there is more to read: a flood is not an answer either.
        if now >= min(until, self._grace_by + _GRACE_S):
            if self._grace_s is not None:
                return b""
            raise deadline_failure(self._provider, what, limit_s, response.status)
        try:
            data = self._rest or response.read_nowait()
            if data is None:
                self._at_once = 0
                data = await response.read(max(0.0, min(until, self._grace_by) - now))
            elif self._at_once > _MOST_AT_ONCE:
                # Nothing was waited for: a small compressed input may become very much output.
                self._at_once = 0
                await asyncio.sleep(0)
        except TransportError as err:
            if err.kind is TransportErrorKind.IDLE_TIMEOUT:
                if self._grace_s is not None:
                    # All that was owed has come but the end marker.
                    return b""
                raise deadline_failure(self._provider, what, limit_s, response.status) from None
            if err.kind is TransportErrorKind.TRUNCATED and self._had_come_to_its_end():
                return b""
            failure = transport_failure(err, self._provider, response.status)
            failure.may_be_billed = self._has_begun
            raise failure from err
        # In small pieces, since events are several times as large on their way to the caller.
        data, self._rest = data[:_PIECE_BYTES], data[_PIECE_BYTES:]
        self._at_once += len(data)
        return data

    def _had_come_to_its_end(self) -> bool:
        """A sender that drops the end of its framing may still have sent a whole answer."""
        assert self._decoder is not None
        for event in self._framing.finish():
            self._ready += self._decoder.feed(event)
        return any(isinstance(item, StreamEnd) for item in self._ready)

    def _feed(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None, "an answer that came whole needs no decoder"
        self._received += len(data)
        if self._received > _MAX_STREAM_BYTES:
            self._ready += self._flood("sent an answer that is too large")
            return
        try:
            events = self._framing.feed(data) if data else self._framing.finish()
        except FramingError as err:
            self._ready += self._flood(f"sent {err}")
            return
        self._decode(decoder, events)
        if events:
            # Comments only keep the connection alive: they say nothing about the answer.
            self._quiet_since = time.monotonic()
            if decoder.has_finished:
                self._note_finish(decoder)
            elif self._grace_s is not None:
                self._grace_s, self._grace_by = None, math.inf
        if not data:
            self._ready += decoder.finish()
            if not any(isinstance(item, StreamEnd | StreamError) for item in self._ready):
                cut = self._broken("ended its answer before it was complete", retry=True)
                self._ready.append(StreamError(failure=cut))

    def _decode(self, decoder: StreamDecoder, events: list[SSEEvent]) -> None:
        """Decode events into `_ready`; an error ends them if there are more than any answer has."""
        self._events += len(events)
        if self._events > _MAX_EVENTS:
            self._ready += self._flood(f"sent more than {_MAX_EVENTS} events")
            return
        for event in events:
            if len(event.data) > _LARGE_EVENT_BYTES:
                try:
                    check_values(event.data)
                except UpstreamFailure as failure:
                    self._ready.append(StreamError(failure=failure))
                    return
            items = decoder.feed(event)
            if self._is_native and event.is_framed and event.complete and not _is_error(items):
                self._ready.append(NativeEvent(event_bytes(event)))
            if items:
                self._ready += items
                self._barren_run = 0
                continue
            self._barren += 1
            self._barren_run += 1
            if self._barren_run > _MAX_BARREN_RUN or self._barren > _MAX_BARREN_EVENTS:
                count = min(self._barren, _MAX_BARREN_EVENTS)
                self._ready += self._flood(f"sent {count} events without content")
                return

    def _flood(self, what: str) -> list[StreamItem]:
        """End an answer that is more than any answer is. One that had come as a whole is still a whole one."""
        decoder = self._decoder
        assert decoder is not None, "an answer that came whole has no more than that"
        if decoder.has_finished and decoder.has_usage:
            return decoder.finish()
        return [StreamError(failure=self._broken(what, retry=False))]

    def _note_finish(self, decoder: StreamDecoder) -> None:
        """Bound the wait for the end marker, since nothing else is owed but perhaps the usage."""
        grace_s = _GRACE_S if decoder.has_usage else _GRACE_WITHOUT_USAGE_S
        if grace_s != self._grace_s:
            self._grace_s = grace_s
            self._grace_by = time.monotonic() + grace_s

    def _broken(self, what: str, *, retry: bool) -> UpstreamFailure:
        return UpstreamFailure(
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            f"{self._provider} {what}.",
            retry=retry,
            fall_back=True,
            http_status=200,
        )

    def _finish(self) -> None:
        """Give the connection back if the body is at its end, as it is after a well-formed answer."""
        if self.malformed:
            _log.warning(
                "%s sent %d malformed events in one answer", self._provider, self.malformed
            )
        if self._response is not None:
            # The answer is whole; how the connection ends is of no interest.
            with contextlib.suppress(TransportError):
                self._response.read_nowait()
            self._response.close()


def _is_error(items: list[StreamItem]) -> bool:
    """Whether an event is an error, which the client gets from the gateway: it may hold a key."""
    return bool(items) and isinstance(items[-1], StreamError)


def _items_of(answer: Answer) -> list[StreamItem]:
    items: list[StreamItem] = []
    if answer.upstream_model:
        items.append(StreamModel(name=answer.upstream_model))
    items += [delta_of(choice) for choice in answer.choices]
    if answer.usage is not None:
        items.append(answer.usage)
    items.append(StreamEnd())
    return items
