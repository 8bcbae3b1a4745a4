"""The client: one call on a connection of its own."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from maniac_common.hop.calls import request_headers
from maniac_common.hop.connection import Connection
from maniac_common.hop.endpoint import Endpoint
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import Sink, Stream


class Address(NamedTuple):
    """Where a server listens: a Unix socket, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0


class Client:
    """An open call."""

    def __init__(self, endpoint: Endpoint, stream: Stream) -> None:
        self.stream = stream
        self._endpoint = endpoint

    def close(self) -> None:
        """End the call if it still runs, and disconnect."""
        self.stream.reset()
        self._endpoint.flush()
        self._endpoint.close()


async def connect(
    address: Address,
    method: str,
    metadata: Headers,
    sink: Sink,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Client:
    """Connect, and begin a call of a method, `/package.Service/Method`; does not wait for the answer's head.

    `server_name`: whose certificate it has to be, unless the host's.

    Raises:
        OSError: nobody listens there, or TLS fails.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(None, max_message_bytes=None)

    def make() -> Endpoint:
        return Endpoint(connection)

    if address.path:
        _, endpoint = await loop.create_unix_connection(make, address.path)
    else:
        name = (server_name or address.host) if tls is not None else None
        _, endpoint = await loop.create_connection(
            make, address.host, address.port, ssl=tls, server_hostname=name
        )
    scheme = "http" if tls is None else "https"
    authority = server_name or address.host or "localhost"
    stream = connection.open(request_headers(method, scheme, authority, metadata), sink)
    endpoint.flush()
    return Client(endpoint, stream)
