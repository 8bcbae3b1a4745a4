"""Both sides of a hop without sockets, and what each of them heard."""

from __future__ import annotations

from collections.abc import Iterator

from maniac_common.hop import frames
from maniac_common.hop.calls import Status, request_headers
from maniac_common.hop.connection import Accept, Connection
from maniac_common.hop.hpack import Headers
from maniac_common.hop.stream import Stream

METHOD = "/maniac_gateway.v1.RelayService/Relay"
Frame = tuple[int, int, int, bytes]


class Heard:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.heads: list[Headers] = []
        self.messages: list[bytes] = []
        self.statuses: list[Status] = []
        self.half_closes = 0
        self.times_ready = 0

    def head(self, metadata: Headers) -> None:
        """The server has begun to answer."""
        self.heads.append(metadata)

    def message(self, data: bytes) -> None:
        """A message came."""
        self.messages.append(data)

    def half_closed(self) -> None:
        """The client sends nothing more."""
        self.half_closes += 1

    def ready(self) -> None:
        """There is room again."""
        self.times_ready += 1

    def ended(self, status: Status) -> None:
        """The stream has ended."""
        self.statuses.append(status)


class ServerSide:
    """A server that accepts every call."""

    def __init__(self, *, max_message_bytes: int = 1 << 20, accept: Accept | None = None) -> None:
        self.connection = Connection(accept or self._accept, max_message_bytes=max_message_bytes)
        self.heard = Heard()
        self.streams: list[Stream] = []
        self.requests: list[Headers] = []

    @property
    def stream(self) -> Stream:
        """The last call."""
        return self.streams[-1]

    def _accept(self, stream: Stream, headers: Headers) -> None:
        self.streams.append(stream)
        self.requests.append(headers)
        stream.begin((("x-first", "1"),), self.heard)


class ClientSide:
    """A client with an open call."""

    def __init__(self, *metadata: tuple[str, str], max_message_bytes: int | None = None) -> None:
        self.connection = Connection(None, max_message_bytes=max_message_bytes)
        self.heard = Heard()
        headers = request_headers(METHOD, "http", "core", metadata)
        self.stream = self.connection.open(headers, self.heard)


def exchange(client: ClientSide, server: ServerSide) -> None:
    """Carry bytes between both until neither has more to say."""
    while client.connection.out or server.connection.out:
        server.connection.receive(client.connection.take())
        client.connection.receive(server.connection.take())


def pair(**options: int) -> tuple[ClientSide, ServerSide]:
    """Return both sides with an open call."""
    client, server = ClientSide(), ServerSide(**options)  # type: ignore[arg-type]
    exchange(client, server)
    return client, server


def parse(data: bytes) -> Iterator[Frame]:
    """Yield kind, flags, stream and payload of frames; a client's preface is left out."""
    at = len(frames.PREFACE) if data.startswith(frames.PREFACE) else 0
    while at < len(data):
        high, low, kind, flags, number = frames.HEAD.unpack_from(data, at)
        length = high << 16 | low
        yield kind, flags, number, data[at + 9 : at + 9 + length]
        at += 9 + length


def said(connection: Connection) -> list[Frame]:
    """Return the frames that a side sends now."""
    return list(parse(connection.take()))
