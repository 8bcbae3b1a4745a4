"""Runs the app under uvicorn, with signals and refusals as the gateway wants them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Generator
from types import FrameType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maniac_edge.app import create_app
from maniac_edge.config import EdgeConfig
from maniac_edge.connection import CLIENT_WATCH, ClientWatch
from maniac_edge.context import new_request_id
from maniac_edge.errors import EdgeError, envelope
from maniac_edge.gathering import GatheringTransport

# Above the idle time after which clients drop a pooled connection, so that it is the client who closes it and no
# request meets a connection that is just going away. A head has to be complete by then, and a body to go on.
_IDLE_CONNECTION_S = 75
# Of a request line with its headers, and of whatever is no body after them. Nothing else bounds it, and nobody was
# asked for a key yet.
_MAX_HEAD_BYTES = 64 * 1024
_INVALID = "Invalid HTTP request received."
_HEAD_TOO_LARGE = f"The head of the request is larger than {_MAX_HEAD_BYTES} bytes."
_GC_THRESHOLD = 20_000
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_CLOSE = (b"connection", b"close")
_OFFER_HEADERS = frozenset({b"upgrade", b"http2-settings"})


class EdgeServer(uvicorn.Server):
    """A server that ends with status 0 after a first signal, and at once after a second one.

    Before it stops accepting it tells load balancers and clients to go elsewhere, for `drain_s` seconds.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._stops_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say where."""
        await super().startup(sockets)
        # What start-up made stays for good: the collector need not look at it again. Requests leave few cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        for server in self.servers:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                _log.info("listening on http://%s:%s", host, port)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals while serving. The base class raises them again afterwards, which would be the status."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to leave, stop accepting and let running answers end; the second time, end them."""
        del frame
        if self._stops_at is not None:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._stops_at = time.monotonic() + self._drain_s
        self.config.app.state.is_leaving = True  # type: ignore[union-attr]  # ours
        self.should_exit = not self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Do what is to be done ten times a second; return whether to stop accepting."""
        if self._stops_at is not None:
            # Each answer asks its client to come back on another connection, and so through the load balancer.
            if _CLOSE not in self.config.encoded_headers:
                self.config.encoded_headers.append(_CLOSE)
            self.should_exit = time.monotonic() >= self._stops_at
            # The count at which the server takes over its headers.
            counter = 0
        return await super().on_tick(counter)


class _HeadTooLargeError(Exception):
    """Leaves the parser as the context of its own error."""


class EdgeProtocol(HttpToolsProtocol):
    """HTTP/1.1, whose refusal of what is not HTTP looks like every other refusal.

    A client that stops in the middle of a request, or sends none, is left after the time of an idle connection.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve a connection, its writes gathered."""
        gathering: Any = GatheringTransport(transport, self.loop)
        self._extensions = {CLIENT_WATCH: ClientWatch()}
        self._head_bytes = 0
        self._heard_at = 0.0
        self._in_body = False
        super().connection_made(gathering)
        self._wait_for_client(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever answers that nobody listens any more."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._extensions[CLIENT_WATCH].note_gone()

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless a body goes on, or waits for us."""
        if self._in_body and not self.transport.is_closing():
            now = self.loop.time()
            heard_at = now if self.flow.read_paused else self._heard_at
            if (left_s := heard_at + self.timeout_keep_alive - now) > 0:
                self._wait_for_client(left_s)
                return
        super().timeout_keep_alive_handler()

    def data_received(self, data: bytes) -> None:
        """Parse what came; an offer to speak another protocol is passed over, and its request served."""
        self._heard_at = self.loop.time()
        self._head_bytes += len(data)
        rest: bytes | memoryview = data
        try:
            while rest:
                rest = self._parse(rest)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as err:
            is_large = isinstance(err.__context__, _HeadTooLargeError)
            self._refuse(_HEAD_TOO_LARGE if is_large else _INVALID)
            return
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(_HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Start serving, unless the request comes again without its offer."""
        if self._head_bytes > _MAX_HEAD_BYTES:
            # Of these bytes some may be a body, or further requests.
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > _MAX_HEAD_BYTES:
                raise _HeadTooLargeError
        if not self.parser.should_upgrade():
            self._in_body = True
            self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]
            super().on_headers_complete()
            # Trailers are nobody's.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the body, which the parser sees at once where there is an offer."""
        if not self.parser.should_upgrade():
            self._head_bytes = 0
            self._in_body = False
            if not self.cycle.response_complete:
                self._unset_keepalive_if_required()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, whose body may still be on its way."""
        super().on_response_complete()
        if self._in_body and self.timeout_keep_alive_task is None:
            self._wait_for_client(self.timeout_keep_alive)

    def _wait_for_client(self, timeout_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            timeout_s, self.timeout_keep_alive_handler
        )

    def _parse(self, data: bytes | memoryview) -> memoryview:
        """Parse, and return what comes after an offer."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                raise
            self._pass_over_offer()
            # No copy: with an offer in each of many requests at once there would be as many.
            return memoryview(data)[offer.args[0] :]
        return memoryview(b"")

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
        _log.warning(message)
        self.send_400_response(message)

    def send_400_response(self, msg: str) -> None:
        """Answer something that cannot be parsed, and close."""
        body = envelope(EdgeError("INVALID_VALUE", msg))
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            "content-type: application/json\r\n"
            f"x-request-id: {new_request_id()}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


def work_in_batches() -> None:
    """Ask not to be interrupted whenever another thread wakes: what it would take over from is in the caches."""
    # Threads that are made later inherit it. Only Linux knows it, and a sandbox may forbid it.
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def build_server(config: EdgeConfig) -> EdgeServer:
    """Return the server for a configuration; `run()` blocks until it has stopped."""
    return EdgeServer(
        uvicorn.Config(
            create_app(config),
            host=config.host,
            port=config.port,
            loop="uvloop",
            http=EdgeProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_CONNECTION_S,
            timeout_graceful_shutdown=config.grace_s,
            backlog=2048,
        ),
        config.drain_s,
    )
