"""The playback of a scripted answer: bytes that arrive by the clock, and how their arrival ends."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from maniac_core.providers.transport import TransportError, TransportErrorKind

COMMENT = b": scripted\n\n"


class Ending(enum.Enum):
    """The event after the last byte of a script."""

    END = "end"
    """The clean end of the body."""
    HANG = "hang"
    """Nothing, forever."""
    TRUNCATED = "truncated"
    RESET = "reset"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """The head of an answer, and when which bytes of its body arrive."""

    status: int
    headers: dict[str, str]
    pieces: list[tuple[float, bytes]]
    """Seconds after the piece before it, and bytes."""
    ending: Ending = Ending.END
    comment_every_s: float | None = None
    """A comment so often while nothing else arrives."""


class ScriptedResponse:
    """Implements `UpstreamResponse`. Its body arrives whether it is read or not, from creation on."""

    def __init__(
        self,
        script: Script,
        origin: str,
        idle_s: float | None,
        on_over: Callable[[ScriptedResponse], None],
    ) -> None:
        self.status = script.status
        self.headers: Mapping[str, str] = script.headers
        self._ending = script.ending
        self._origin = origin
        self._idle_s = idle_s
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._reached = self._started
        self._timeline = _timeline(script)
        self._next = next(self._timeline, None)
        self._error: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self, timeout_s: float | UnsetType | None = UNSET) -> bytes:
        """See `UpstreamResponse.read`."""
        limit_s = self._idle_s if isinstance(timeout_s, UnsetType) else timeout_s
        deadline = None if limit_s is None else self._loop.time() + limit_s
        while (data := self.read_nowait()) is None:
            if not await self._progress(deadline):
                error = self._failure(
                    TransportErrorKind.IDLE_TIMEOUT, f"no body bytes within {limit_s} s"
                )
                if isinstance(timeout_s, UnsetType):
                    self._finish(error)
                raise error
        return data

    def read_nowait(self) -> bytes | None:
        """See `UpstreamResponse.read_nowait`."""
        if self._error is not None:
            raise self._error
        now = max(self._loop.time(), self._reached) - self._started
        parts: list[bytes] = []
        while self._next is not None and self._next[0] <= now:
            parts.append(self._next[1])
            self._next = next(self._timeline, None)
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if self._next is not None or self._ending is Ending.HANG:
            return None
        if self._ending is Ending.END:
            self._on_over(self)
            return b""
        if self._ending is Ending.RESET:
            self._finish(self._failure(TransportErrorKind.RESET, "connection reset in the body"))
        else:
            self._finish(self._failure(TransportErrorKind.TRUNCATED, "body is cut off"))
        return self.read_nowait()

    async def read_all(self, limit: int) -> bytes:
        """See `UpstreamResponse.read_all`."""
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit:
                self.close()
                raise self._failure(
                    TransportErrorKind.BODY_TOO_LARGE, f"body exceeds {limit} bytes"
                )
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """See `UpstreamResponse.close`."""
        self._finish(self._failure(TransportErrorKind.CLOSED, "response is closed"))

    async def _progress(self, deadline: float | None) -> bool:
        """Wait until bytes are due or the response is closed; False if the deadline came first."""
        if self._waiter is not None:
            raise RuntimeError("another read() is waiting on this response")
        due = None if self._next is None else self._started + self._next[0]
        is_in_time = due is not None and (deadline is None or due <= deadline)
        when = due if is_in_time else deadline
        waiter = self._waiter = self._loop.create_future()
        timer = None if when is None else self._loop.call_at(when, _wake, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        if self._error is not None:
            return True
        if when is not None:
            # A loop may call a little early by its own clock, which must not lead to another wait.
            self._reached = max(self._reached, when)
        return is_in_time

    def _finish(self, error: TransportError) -> None:
        """End the response with an error, unless a read has ended it already, and wake its reader."""
        if self._error is None or error.kind is TransportErrorKind.CLOSED:
            self._error = error
        self._next = None
        self._on_over(self)
        if self._waiter is not None:
            _wake(self._waiter)

    def _failure(self, kind: TransportErrorKind, what: str) -> TransportError:
        return TransportError(kind, f"{self._origin}: {what}", sent=True)


def _timeline(script: Script) -> Iterator[tuple[float, bytes]]:
    """Yield when bytes arrive, in seconds after the head, and the bytes; endless if comments are."""
    every_s = script.comment_every_s
    now = 0.0
    for delay_s, data in script.pieces:
        due = now + delay_s
        while every_s is not None and now + every_s < due:
            now += every_s
            yield now, COMMENT
        now = due
        yield now, data
    while every_s is not None and script.ending is Ending.HANG:
        now += every_s
        yield now, COMMENT


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
