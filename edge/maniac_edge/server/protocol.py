"""HTTP/1.1 on one connection, whose refusals of what is not HTTP look like every other refusal.

uvicorn's protocol does the work. Here is what it leaves to whoever sends: how much, how long, and in what form.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import struct
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from maniac_edge.context import new_request_id
from maniac_edge.errors import EdgeError, envelope
from maniac_edge.http.client_connection import CLIENT_WATCH, ClientWatch
from maniac_edge.server.connections import Connections
from maniac_edge.server.cycle import Arrival, EdgeCycle
from maniac_edge.server.sockets import Sockets, handshake, is_offered
from maniac_edge.server.write_batching import GatheringTransport

# Above the idle time after which clients drop a pooled connection, so that it is the client who closes it and no
# request meets a connection that is just going away. A head has to be complete by then, and a body to go on.
IDLE_CONNECTION_S = 75
# Of a request line with its headers, and of any bytes after them outside a body. Nothing else bounds it, and nobody was
# asked for a key yet.
_MAX_HEAD_BYTES = 64 * 1024
# Requests on one connection that wait for the one before them; those that one read of the socket brings may be more.
_MAX_WAITING = 1000
# What is still taken in, and thrown away, of a request that was answered before its end. Closing at once would reset
# the connection under a client that has not read the answer yet.
_LINGER_S = 5.0
_LINGER_BYTES = 64 * 1024 * 1024
_INVALID = "Invalid HTTP request received."
_HEAD_TOO_LARGE = f"The head of the request is larger than {_MAX_HEAD_BYTES} bytes."
_OFFER_HEADERS = frozenset({b"upgrade", b"http2-settings"})
_VERSIONS = frozenset({"1.0", "1.1"})
_FRAMING = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})
_AT_ONCE = struct.pack("ii", 1, 0)
_STATUS_LINES = {
    400: "400 Bad Request",
    408: "408 Request Timeout",
    429: "429 Too Many Requests",
}
_log = logging.getLogger(__name__)


class _RefusedError(Exception):
    """Says why a head is refused; leaves the parser as the context of its own error."""


class EdgeProtocol(HttpToolsProtocol):
    """One connection.

    A client that stops in the middle of a request, or sends none, is left after the time of an idle connection; one
    that takes nothing of its answer after `unread_timeout_s`.
    """

    def __init__(
        self,
        *args: Any,
        guard: Connections,
        unread_timeout_s: float,
        sockets: Sockets,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._sockets = sockets
        self._guard = guard
        self._unread_timeout_s = unread_timeout_s
        self._head_bytes = 0
        self._heard_at = 0.0
        self._wait_until: float | None = None
        """When to leave a client that sends nothing, by the loop's clock. None: it is not waited for."""
        self._is_deaf = False
        """Whether nothing that comes is parsed any more."""
        self._ignored_bytes = 0
        self._malformed: RequestResponseCycle | None = None
        """A request that waits for its turn to be refused."""
        self._drop_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a connection, its writes gathered."""
        self._raw = transport
        gathering: Any = GatheringTransport(transport, self.loop, self._close)
        super().connection_made(gathering)
        self._watch = ClientWatch(self.flow.pause_reading, self.drop)
        self._extensions = {CLIENT_WATCH: self._watch}
        self._address = self.client[0] if self.client else ""
        refusal = self._guard.add(self._address)
        if refusal is None:
            self._wait_for_client(self.timeout_keep_alive)
        else:
            self._answer(EdgeError("TOO_MANY_CONNECTIONS", refusal), b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler that its client is gone."""
        self._guard.remove(self._address)
        super().connection_lost(exc)
        timers = (self._drop_timer, self._unread_timer, self._linger_timer)
        for timer in (self.timeout_keep_alive_task, *timers):
            if timer is not None:
                timer.cancel()
        self._watch.note_gone()

    def drop(self, seconds: float) -> None:
        """Close the connection, at the latest after so many seconds, whatever was not read."""
        if self._drop_timer is None:
            self._drop_timer = self.loop.call_later(seconds, self._reset)

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless a body goes on, or waits for us."""
        if self._watch.in_body and not self.transport.is_closing():
            now = self.loop.time()
            heard_at = now if self.flow.read_paused else self._heard_at
            if (left_s := heard_at + self.timeout_keep_alive - now) > 0:
                self._wait_for_client(left_s)
                return
            if self.cycle is not None and not self.cycle.response_started and not self.pipeline:
                message = f"Nothing came of the request body for {self.timeout_keep_alive} seconds."
                self._end_request(EdgeError("REQUEST_TIMEOUT", message))
                return
        super().timeout_keep_alive_handler()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; an offer to switch protocols is ignored, unless it is of a WebSocket, and its request served."""
        if self._is_deaf or (self._watch.in_body and self.cycle.response_complete):
            self._ignored_bytes += len(data)
            if self._ignored_bytes > _LINGER_BYTES:
                self._raw.abort()
                return
            if self._is_deaf:
                return
        self._heard_at = self.loop.time()
        self._head_bytes += len(data)
        rest: bytes | memoryview = data
        try:
            while rest:
                rest = self._parse(rest)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as err:
            is_ours = isinstance(err.__context__, _RefusedError)
            self._refuse(str(err.__context__) if is_ours else _INVALID)
            return
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._hosts = 0
        self._codings = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those that say where a request ends must say so in one way only."""
        name = name.lower()
        self.headers.append((name, value))
        if name in _FRAMING:
            if name == b"host":
                self._hosts += 1
            elif name == b"expect":
                if value.lower() == b"100-continue":
                    self.expect_100_continue = True
            elif name == b"transfer-encoding":
                self._codings += 1
                if value.strip().lower() != b"chunked":
                    raise _RefusedError("Transfer-Encoding can only be chunked here.")
            else:
                self._codings += 1

    def on_headers_complete(self) -> None:
        """Start serving, unless the request comes again without its offer."""
        if self._head_bytes > _MAX_HEAD_BYTES:
            # Of these bytes some may be a body, or further requests.
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > _MAX_HEAD_BYTES:
                raise _RefusedError(_HEAD_TOO_LARGE)
        version = self.parser.get_http_version()
        if self._hosts != 1 or self._codings > 1 or version not in _VERSIONS:
            self._check_framing(version)
        if not self.parser.should_upgrade():
            if len(self.pipeline) >= _MAX_WAITING:
                raise _RefusedError("Too many requests wait on this connection.")
            self._watch.in_body = True
            self._begin(version)
            # Trailers are nobody's.
            self.headers = []

    def _begin(self, version: str) -> None:
        """Give the request to the app, now or in its turn."""
        url = httptools.parse_url(self.url)
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        # Routes are matched before percent-decoding.
        scope["path"] = url.path.decode("ascii")
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["extensions"] = self._extensions
        before = self.cycle
        arrival: Any = Arrival()
        cycle = self.cycle = EdgeCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=arrival,
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _check_framing(self, version: str) -> None:
        if version not in _VERSIONS:
            raise _RefusedError("The HTTP version must be 1.0 or 1.1.")
        if self._hosts > 1 or (self._hosts == 0 and version == "1.1"):
            raise _RefusedError("A request needs one Host header.")
        if self._codings > 1:
            raise _RefusedError("The length of the body is given more than once.")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the body, which the parser sees at once where there is an offer."""
        if not self.parser.should_upgrade():
            self._head_bytes = 0
            self._watch.in_body = False
            if not self.cycle.response_complete:
                self._wait_until = None
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, whose body may still be on its way."""
        self.server_state.total_requests += 1
        self._wait_until = None
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._wait_for_client(self.timeout_keep_alive)
        if self._drop_timer is not None:
            self._drop_timer.cancel()
            self._drop_timer = None
        if self._watch.in_body and self._wait_until is None:
            self._wait_for_client(self.timeout_keep_alive)

    def pause_writing(self) -> None:
        """Hold the answer back: its client does not read."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Go on with it."""
        super().resume_writing()
        if self._unread_timer is not None and not self.transport.is_closing():
            self._unread_timer.cancel()
            self._unread_timer = None

    def _watch_reader(self) -> None:
        self._unread_bytes = self._raw.get_write_buffer_size()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._unread_timeout_s, self._check_reader)

    def _check_reader(self) -> None:
        self._unread_timer = None
        if self._raw.get_write_buffer_size() >= self._unread_bytes:
            self._reset()
        else:
            self._watch_reader()

    def _reset(self) -> None:
        """End the connection now. What its client has not read the kernel would keep, and go on offering."""
        connection = self._raw.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._raw.abort()

    def _wait_for_client(self, timeout_s: float) -> None:
        # The timer goes on while a request is served: to cancel and start one for each costs more.
        self._wait_until = self.loop.time() + timeout_s
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(timeout_s, self._check_wait)

    def _check_wait(self) -> None:
        self.timeout_keep_alive_task = None
        if self._wait_until is None:
            return
        left_s = self._wait_until - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self._check_wait)
        else:
            self._wait_until = None
            self.timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle is self._malformed:
            self._answer(EdgeError("INVALID_VALUE", _INVALID))
        else:
            task = self.loop.create_task(cycle.run_asgi(app))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def _parse(self, data: bytes | memoryview) -> memoryview:
        """Parse, and return what comes after an offer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                raise
            # No copy: with an offer in each of many requests at once there would be as many.
            rest = memoryview(data)[offer.args[0] :]
            if self.parser.get_method() == b"GET" and self._become_socket(bytes(rest)):
                return memoryview(b"")
            self._pass_over_offer()
            return rest
        return memoryview(b"")

    def _become_socket(self, rest: bytes) -> bool:
        """Give the connection away, if a WebSocket is offered where there are any, and nothing is owed before it."""
        path = httptools.parse_url(self.url).path
        is_idle = not self.pipeline and (self.cycle is None or self.cycle.response_complete)
        if path not in self._sockets.paths or not is_idle or not is_offered(self.headers):
            return False
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        lost = functools.partial(self._guard.remove, self._address)
        self._sockets.open(self, self._raw, handshake(path, self.headers), rest, lost)
        return True

    def _pass_over_offer(self) -> None:
        # After the head of such a request the parser takes the rest for the other protocol. Some HTTP libraries offer
        # h2c with each first request, bodies included.
        lines = [b"%s %s HTTP/1.1\r\n" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            if name in _OFFER_HEADERS:
                continue
            kept = value
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = b", ".join(t for t in tokens if t.lower() not in _OFFER_HEADERS)
            lines.append(b"%s: %s\r\n" % (name, kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join([*lines, b"\r\n"]))

    def _refuse(self, message: str) -> None:
        """Refuse what is not HTTP, in its turn: an answer that is under way, or owed, comes whole and before it."""
        _log.warning(message)
        self._is_deaf = True
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(EdgeError("INVALID_VALUE", message))
        elif self._watch.in_body and self.pipeline:
            self._malformed = cycle
        elif self._watch.in_body and not cycle.response_started:
            self._end_request(EdgeError("INVALID_VALUE", message))
        else:
            # The connection ends with the answer; nothing more is sent to its client.
            cycle.keep_alive = False

    def _end_request(self, error: EdgeError) -> None:
        """Answer a request whose body will not arrive, and tell its reader."""
        self._answer(error)
        self.cycle.disconnected = True
        self.cycle.message_event.set()

    def _answer(self, error: EdgeError, header: bytes = b"") -> None:
        """Answer what never became a request, and close."""
        self._is_deaf = True
        body = envelope(error)
        head = (
            f"HTTP/1.1 {_STATUS_LINES[error.status]}\r\n"
            "content-type: application/json\r\n"
            "cache-control: no-store\r\n"
            "x-content-type-options: nosniff\r\n"
            f"x-request-id: {new_request_id()}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n"
        )
        self.transport.write(head.encode("ascii") + header + b"\r\n" + body)
        self.transport.close()

    def _close(self) -> None:
        """Close; while a client still sends, in a way that lets it read its answer."""
        self._wait_until = None
        if self._watch.in_body or self._is_deaf:
            self._is_deaf = True
            self.flow.resume_reading()
            if self._raw.can_write_eof() and not self._raw.is_closing():
                self._raw.write_eof()
            self._linger_timer = self.loop.call_later(_LINGER_S, self._raw.close)
        else:
            self._raw.close()
        # Bytes that are not read now would keep the connection from ending.
        self._watch_reader()
