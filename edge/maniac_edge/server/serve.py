"""Runs the app under uvicorn, with signals and refusals as the gateway wants them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Generator
from types import FrameType
from typing import Any

import uvicorn
from litestar.datastructures import State

from maniac_edge.app import create_app
from maniac_edge.config import EdgeConfig
from maniac_edge.http.client_connection import CLOSE
from maniac_edge.server.connections import Connections
from maniac_edge.server.protocol import IDLE_CONNECTION_S, EdgeProtocol
from maniac_edge.server.sockets import Sockets

_GC_THRESHOLD = 20_000
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class EdgeServer(uvicorn.Server):
    """A server that ends with status 0 after a first signal, and at once after a second one.

    Before it stops accepting it tells load balancers and clients to go elsewhere, for `drain_s` seconds.
    """

    def __init__(self, config: uvicorn.Config, state: State, drain_s: float) -> None:
        super().__init__(config)
        self._state = state
        self._drain_s = drain_s
        self._stops_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say where."""
        await super().startup(sockets)
        # Objects made at start stay: the collector need not examine them again. Requests leave few cycles.
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
        self._state.is_leaving = True
        self.should_exit = not self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Do what is to be done ten times a second; return whether to stop accepting."""
        if self._stops_at is not None:
            # Each answer asks its client to come back on another connection, and so through the load balancer.
            if CLOSE not in self.config.encoded_headers:
                self.config.encoded_headers.append(CLOSE)
            self.should_exit = time.monotonic() >= self._stops_at
            # The count at which the server takes over its headers.
            counter = 0
        return await super().on_tick(counter)


def open_as_many_as_allowed() -> None:
    """Raise the limit of open files to what the machine allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record is worth a line: uvicorn logs each answer that it cuts at the end of the grace, with a traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def build_server(config: EdgeConfig) -> EdgeServer:
    """Return the server for a configuration; `run()` blocks until it has stopped."""
    app = create_app(config)
    # Not a class, but called as one.
    protocol: Any = functools.partial(
        EdgeProtocol,
        guard=Connections(config),
        unread_timeout_s=config.unread_timeout_s,
        sockets=Sockets(app.socket_paths, app.sockets),
    )
    return EdgeServer(
        uvicorn.Config(
            app.asgi,
            host=config.host,
            port=config.port,
            loop="uvloop",
            http=protocol,
            # Some connections become WebSockets all the same: see Sockets.
            ws="none",
            ws_max_size=config.max_body_bytes,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=config.grace_s,
            backlog=2048,
        ),
        app.state,
        config.drain_s,
    )
