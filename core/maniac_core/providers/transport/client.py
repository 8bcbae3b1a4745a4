"""The transport the core calls providers with: pools of HTTP/1.1 connections, one per origin."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from maniac_core.providers.transport.base import (
    Deadlines,
    TransportError,
    TransportErrorKind,
    UpstreamRequest,
)
from maniac_core.providers.transport.connection import Connection
from maniac_core.providers.transport.dial import dial
from maniac_core.providers.transport.pool import OriginPool
from maniac_core.providers.transport.proxy import (
    Proxy,
    ProxySettings,
    no_address,
    open_tunnel,
)
from maniac_core.providers.transport.request import Headers, encode_head, finish_head
from maniac_core.providers.transport.response import HttpResponse
from maniac_core.providers.transport.tls import default_context
from maniac_core.providers.transport.url import Target, parse_url

_CACHED_HEADS = 256


class HttpTransport:
    """Implements `Transport` over asyncio sockets; belongs to the event loop that first uses it.

    Connections are kept alive and reused, and closed when they have been idle for `idle_expiry_s`. Redirects are not
    followed and cookies not kept.
    `environ` is read once, for the proxy variables and `SSL_CERT_FILE`, `SSL_CERT_DIR`.
    """

    def __init__(
        self,
        *,
        max_connections_per_origin: int = 1000,
        idle_expiry_s: float = 55.0,
        max_header_bytes: int = 65_536,
        ssl_context: ssl.SSLContext | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._max_connections = max_connections_per_origin
        self._idle_expiry_s = idle_expiry_s
        self._max_header_bytes = max_header_bytes
        self._ssl_context = ssl_context
        self._environ = dict(environ)
        self._proxies = ProxySettings(environ)
        self._routes: dict[str, _Route] = {}
        # Most requests of a process repeat a few heads: encoding one takes several microseconds,
        # finding it again a fraction of one.
        self._prepare = functools.lru_cache(_CACHED_HEADS)(self._prepare_new)
        self._is_closed = False

    async def send(self, request: UpstreamRequest, deadlines: Deadlines) -> HttpResponse:
        """See `Transport.send`.

        A request that finds its kept-alive connection closed, which shows within milliseconds, is sent once more on
        a new one.
        """
        body = request.body
        pool, start, declared_length = self._prepare(request.method, request.url, request.headers)
        head = finish_head(start, declared_length, request.method, body)
        connection = pool.take_idle()
        if connection is None:
            connection = await _acquire(pool, deadlines, fresh=False)
        if request.on_send is not None:
            request.on_send()
        response = await _exchange(connection, head, body, deadlines)
        if response.is_stale:
            try:
                connection = await _acquire(pool, deadlines, fresh=True)
            except TransportError as error:
                # The first attempt did write.
                error.sent = True
                raise
            response = await _exchange(connection, head, body, deadlines)
        # A failure after the head is for the reader of the body; both may have come at once.
        if not response.status and response.error is not None:
            raise response.error
        return response

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._is_closed = True
        self._prepare.cache_clear()
        routes = list(self._routes.values())
        self._routes.clear()
        for route in routes:
            await route.pool.aclose()

    def _prepare_new(
        self, method: str, url: str, headers: Headers
    ) -> tuple[OriginPool, bytes, str | None]:
        """Find the pool and encode the head of a request, but for what depends on its body."""
        target = parse_url(url)
        route = self._routes.get(target.origin) or self._add_route(target)
        # A tunnel leads to the upstream itself.
        absolute = (
            route.proxy is not None and route.proxy.kind == "http" and target.scheme == "http"
        )
        authorization = route.proxy.authorization if route.proxy is not None and absolute else None
        head, declared_length = encode_head(method, target, headers, authorization, absolute)
        return route.pool, head, declared_length

    def _add_route(self, target: Target) -> _Route:
        """Decide how an origin not seen before is reached."""
        if self._is_closed:
            raise TransportError(TransportErrorKind.CLOSED, "transport is closed", sent=False)
        proxy = self._proxies.for_target(target)
        pool = OriginPool(
            lambda owner: self._connect(owner, target, proxy),
            origin=target.origin,
            max_connections=self._max_connections,
            idle_expiry_s=self._idle_expiry_s,
        )
        route = self._routes[target.origin] = _Route(pool, proxy)
        return route

    async def _connect(self, owner: OriginPool, target: Target, proxy: Proxy | None) -> Connection:
        host, port = (proxy.host, proxy.port) if proxy is not None else (target.host, target.port)
        try:
            sock = await dial(host, port)
        except OSError as error:
            raise _dial_failure(target, proxy, error) from error
        try:
            if proxy is not None and (proxy.kind != "http" or target.scheme == "https"):
                await _tunnel(sock, proxy, target)
            return await self._wrap(owner, target, sock)
        except BaseException:
            sock.close()
            raise

    async def _wrap(self, owner: OriginPool, target: Target, sock: socket.socket) -> Connection:
        """Make a connection of a connected socket, with TLS if the target wants it."""
        loop = asyncio.get_running_loop()
        connection = Connection(loop, owner, target.origin, self._max_header_bytes)
        if target.scheme == "http":
            await loop.create_connection(lambda: connection, sock=sock)
            return connection
        if self._ssl_context is None:
            self._ssl_context = default_context(self._environ)
        try:
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=self._ssl_context, server_hostname=target.host
            )
        except OSError as error:
            raise TransportError(
                TransportErrorKind.TLS,
                f"{target.origin}: TLS handshake failed: {error}",
                sent=False,
            ) from error
        return connection


def upstream_transport(environ: Mapping[str, str]) -> HttpTransport:
    """Return the transport that providers are reached by, whoever asks: the proxies of `environ`, but none to this machine.

    A proxy elsewhere cannot reach the embedded model.
    """
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    own = "127.0.0.1,localhost,::1"
    return HttpTransport(environ={**environ, "no_proxy": f"{excepted},{own}" if excepted else own})


class _Route(NamedTuple):
    """How an origin is reached."""

    pool: OriginPool
    proxy: Proxy | None


async def _acquire(pool: OriginPool, deadlines: Deadlines, *, fresh: bool) -> Connection:
    try:
        async with asyncio.timeout(deadlines.connect_s):
            return await pool.acquire(fresh=fresh)
    except TimeoutError:
        raise TransportError(
            TransportErrorKind.CONNECT_TIMEOUT,
            f"{pool.origin}: no connection within {deadlines.connect_s} s",
            sent=False,
        ) from None


async def _exchange(
    connection: Connection, head: bytes, body: bytes, deadlines: Deadlines
) -> HttpResponse:
    response = HttpResponse(connection.origin, connection, deadlines.idle_s)
    try:
        await connection.start(response, head, body, deadlines.headers_s)
    except BaseException:
        # Not the connection itself: if the answer is complete, that may serve someone else by now.
        response.close()
        raise
    return response


async def _tunnel(sock: socket.socket, proxy: Proxy, target: Target) -> None:
    try:
        await open_tunnel(sock, proxy, target)
    except OSError as error:
        raise TransportError(
            TransportErrorKind.PROXY,
            f"proxy {proxy.host}:{proxy.port} broke off: {error}",
            sent=False,
        ) from error


def _dial_failure(target: Target, proxy: Proxy | None, error: OSError) -> TransportError:
    if proxy is not None:
        return TransportError(
            TransportErrorKind.PROXY,
            f"cannot reach proxy {proxy.host}:{proxy.port} for {target.origin}: {error}",
            sent=False,
        )
    if isinstance(error, socket.gaierror):
        return no_address(target, error)
    return TransportError(
        TransportErrorKind.CONNECT, f"{target.origin}: cannot connect: {error}", sent=False
    )
