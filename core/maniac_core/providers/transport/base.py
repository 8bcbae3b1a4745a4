"""The seam between providers and the network: what a request, a response and a failure are.

Nothing here opens a socket, so providers and their tests need only this module.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One HTTP request to a provider.

    `url` is absolute, http or https.
    `headers` are sent in order; reusing one tuple object for many requests lets its encoding be
    cached.
    The transport adds `host`, `accept-encoding` and `content-length` where they are missing.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    on_send: Callable[[], None] | None = None
    """Called once, right before the first byte is sent."""

    def __repr__(self) -> str:
        """Describe the request without what may hold a credential: URL, headers and body."""
        return f"<UpstreamRequest {self.method} headers={len(self.headers)} body={len(self.body)}>"


class Deadlines(msgspec.Struct, frozen=True):
    """How long each stage of an exchange may take, in seconds; None waits forever."""

    connect_s: float | None = 5.0
    """Waiting for a free connection, DNS, TCP, proxy and TLS together."""
    headers_s: float | None = 60.0
    """From the request being written to the end of the response head."""
    idle_s: float | None = 60.0
    """The longest wait for more body bytes in one `read()`."""


class UpstreamResponse(Protocol):
    """A response whose head has arrived; its receiver calls `close()`."""

    @property
    def status(self) -> int:
        """The final HTTP status; interim 1xx responses are never seen."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers under lower-cased names; repeated ones are joined with a comma and a space.

        A body that was decompressed has lost its `content-encoding` and `content-length`.
        """

    async def read(self, timeout_s: float | UnsetType | None = UNSET) -> bytes:
        """Return all body bytes that are ready, waiting for the first of them if there are none.

        `b""` is returned at a clean end of the body and nowhere else.
        Without `timeout_s` the request's `idle_s` bounds the wait, and exceeding it aborts the
        response.
        An explicit `timeout_s` only bounds this call: the response can be read on afterwards.

        Raises:
            TransportError: IDLE_TIMEOUT, RESET, TRUNCATED, PROTOCOL or CLOSED; bytes which came
                before the failure are returned first.

        """

    def read_nowait(self) -> bytes | None:
        """Return the body bytes that are ready, `b""` at the clean end, None if it would wait.

        Raises:
            TransportError: as `read()`, except IDLE_TIMEOUT.

        """

    async def read_all(self, limit: int) -> bytes:
        """Return the rest of the body, at most `limit` bytes after decompression.

        Raises:
            TransportError: as `read()`, and BODY_TOO_LARGE, which closes the response.

        """

    def close(self) -> None:
        """Give up the response; idempotent.

        The connection of a body that has arrived completely is kept for reuse, any other is
        aborted at once.
        """


class Transport(Protocol):
    """Sends requests to providers."""

    async def send(self, request: UpstreamRequest, deadlines: Deadlines) -> UpstreamResponse:
        """Send the request and return when the response head is complete.

        Cancelling aborts the connection in use.

        Raises:
            TransportError: any kind but IDLE_TIMEOUT and BODY_TOO_LARGE.
            ValueError: the URL or a header cannot be sent.

        """

    async def aclose(self) -> None:
        """Abort every connection; waiting callers get CLOSED."""


class TransportErrorKind(enum.Enum):
    """The kind of a failure between the gateway and a provider."""

    CONNECT = "connect"
    """No TCP connection: refused, unreachable, reset while connecting."""
    DNS = "dns"
    """The host name has no address."""
    TLS = "tls"
    """The TLS handshake failed, or the certificate is not to be trusted."""
    PROXY = "proxy"
    """The configured proxy is unusable or refused the connection."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No connection within `connect_s`; nothing was sent."""
    HEADERS_TIMEOUT = "headers_timeout"
    """No complete response head within `headers_s`."""
    IDLE_TIMEOUT = "idle_timeout"
    """No body bytes within `idle_s`, or within the timeout given to `read()`."""
    RESET = "reset"
    """The server closed the connection before answering, or reset it in an unframed body."""
    TRUNCATED = "truncated"
    """The connection ended inside a response."""
    PROTOCOL = "protocol"
    """The answer is not valid HTTP/1.1, or its compressed data is corrupt."""
    ENCODING = "encoding"
    """The answer has a content encoding that was not asked for and cannot be decoded."""
    HEADERS_TOO_LARGE = "headers_too_large"
    """The response head, or its trailers, exceed `max_header_bytes`."""
    BODY_TOO_LARGE = "body_too_large"
    """The body exceeds the limit given to `read_all()`."""
    CLOSED = "closed"
    """The response or the transport was closed by this side."""


class TransportError(Exception):
    """An exchange with a provider failed.

    `message` names the origin and the cause, and never holds a path, a query or a header, since
    those carry credentials.
    `sent` is True when any byte of the request may have reached the server.
    """

    def __init__(self, kind: TransportErrorKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sent = sent
