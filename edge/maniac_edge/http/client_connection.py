"""The client's connection under a handler: what its head says of the body, and noticing that the client went away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType

from litestar.types import Receive, Scope

from maniac_edge.errors import ClientGoneError, EdgeError

# A compressed body would have to be unpacked against bombs, and would break as JSON with a message that misleads. Other
# codings are let through: `identity`, and charsets that stand in this header by mistake.
_COMPRESSIONS = frozenset({b"br", b"compress", b"deflate", b"gzip", b"x-gzip", b"zstd"})
CLOSE = (b"connection", b"close")
CLIENT_WATCH = "maniac.client_watch"
"""The ASGI extension under which the server offers the connection's ClientWatch."""


async def body_pieces(scope: Scope, receive: Receive, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the request body as it arrives.

    Raises:
        EdgeError: PAYLOAD_TOO_LARGE, before anything is read if the client announced the size; INVALID_VALUE if it is
            compressed.
        ClientGoneError: the client went away before its end.
    """
    check_declared(scope, limit)
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        more = message["more_body"]
        size += len(message["body"])
        if size > limit:
            raise too_large(limit)
        yield message["body"]


class ClientWatch:
    """Tells the handler of a request that its client closed the connection; the server keeps one per connection."""

    __slots__ = ("drop", "in_body", "is_gone", "on_gone", "pause_reading")

    def __init__(self, pause_reading: Callable[[], None], drop: Callable[[float], None]) -> None:
        self.pause_reading = pause_reading
        """Take in no more of the request, until the application asks for it."""
        self.drop = drop
        """Close the connection, at the latest after so many seconds, whatever was not read."""
        self.in_body = False
        """Whether the request has not arrived to its end."""
        self.is_gone = False
        self.on_gone: Callable[[], None] | None = None
        """Called once, when the client goes."""

    def note_gone(self) -> None:
        """The connection is closed."""
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()


class until_gone:  # noqa: N801 - Reads as a statement: `with until_gone(scope)`.
    """Cancels the block when the client closes its connection, and turns that into ClientGoneError.

    Noticing takes a turn of the event loop, so a block that sends without ever waiting for anything is not cancelled.
    """

    def __init__(self, scope: Scope) -> None:
        self._watch: ClientWatch = scope["extensions"][CLIENT_WATCH]  # type: ignore[index,assignment]
        self._gone = False

    def __enter__(self) -> ClientWatch:
        """Start watching."""
        # With the loop at hand it is a system call cheaper.
        task = asyncio.current_task(asyncio.get_running_loop())
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watch.on_gone = self._cancel
        if self._watch.is_gone:
            self._cancel()
        return self._watch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._watch.on_gone = None
        if not self._gone or self._task.uncancel() > self._cancelling:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise ClientGoneError from error

    def _cancel(self) -> None:
        self._gone = True
        self._task.cancel()


def declared_size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the announced size of the request body, 0 if there is none.

    Raises:
        EdgeError: INVALID_VALUE if the body is announced as compressed.
    """
    size = 0
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            size = int(value)
        elif name == b"content-encoding":
            codings = {coding.strip() for coding in value.lower().split(b",")}
            if not codings.isdisjoint(_COMPRESSIONS):
                raise EdgeError(
                    "INVALID_VALUE",
                    "The request body is compressed (Content-Encoding): send it uncompressed.",
                    headers=(CLOSE,),
                )
    return size


def check_declared(scope: Scope, limit: int) -> int:
    """Return the announced size of the request body, as `declared_size` does.

    Raises:
        EdgeError: as there, or PAYLOAD_TOO_LARGE.
    """
    size = declared_size(scope["headers"])
    if size > limit:
        raise too_large(limit)
    return size


def too_large(limit: int) -> EdgeError:
    """Return the refusal of a body above the limit."""
    return EdgeError("PAYLOAD_TOO_LARGE", f"The request body is larger than {limit} bytes.")
