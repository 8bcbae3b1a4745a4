"""The hop beside gRPC's own implementation: either side may be the other's peer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import trustme
from hop_peers import METHOD, Heard
from maniac_common.hop import calls
from maniac_common.hop.calls import Status
from maniac_common.hop.client import Address, Client, connect
from maniac_common.hop.hpack import Headers
from maniac_common.hop.server import Request, Server

_HOST = "127.0.0.1"
_LARGE = bytes(range(256)) * 8_000
_LIMIT = 32 << 20


class _Waiting(Heard):  # type: ignore[misc]  # mypy does not see helpers beside tests
    """What came, to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def head(self, metadata: Headers) -> None:
        super().head(metadata)
        self._changed.set()

    def message(self, data: bytes) -> None:
        super().message(data)
        self._changed.set()

    def half_closed(self) -> None:
        super().half_closed()
        self._changed.set()

    def ready(self) -> None:
        super().ready()
        self._changed.set()

    def ended(self, status: Status) -> None:
        super().ended(status)
        self._changed.set()

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()


class _Echo(_Waiting):
    """Answers each message with itself; `refuse` refuses the call."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request
        self.stream = request.stream

    def message(self, data: bytes) -> None:
        super().message(data)
        if data == b"fail":
            self.stream.finish(Status(calls.RESOURCE_EXHAUSTED, "too much, 100 %: ü"))
        else:
            self.stream.send(data)
        self.stream.flush()

    def half_closed(self) -> None:
        super().half_closed()
        self.stream.finish()
        self.stream.flush()


class _Hop:
    """A server of ours, and the calls it got."""

    def __init__(self) -> None:
        self.calls: list[_Echo] = []
        self.server = Server(self._accept, max_message_bytes=_LIMIT)
        self.port = 0

    def _accept(self, request: Request) -> None:
        metadata = dict(request.metadata)
        if request.method != METHOD:
            request.stream.finish(Status(calls.UNIMPLEMENTED, "no such method"))
        elif metadata.get("x-key") == "wrong":
            request.stream.finish(Status(calls.PERMISSION_DENIED, "who are you?"))
        else:
            echo = _Echo(request)
            self.calls.append(echo)
            request.stream.begin((("x-echo", metadata.get("x-key", "")),), echo)


@pytest_asyncio.fixture
async def hop() -> AsyncIterator[_Hop]:
    hop = _Hop()
    hop.port = await hop.server.listen(_HOST, 0, None)
    yield hop
    await hop.server.stop(0)


def call(channel: grpc.aio.Channel, method: str = METHOD, **options: Any) -> Any:
    return channel.stream_stream(method)(**options)


def open_channel(port: int, *options: tuple[str, Any]) -> grpc.aio.Channel:
    most = ("grpc.max_receive_message_length", -1)
    return grpc.aio.insecure_channel(f"{_HOST}:{port}", options=(most, *options))


async def test_a_grpc_client_is_served(hop: _Hop) -> None:
    """Metadata, small and large messages, the end of both sides, and a second call on the connection."""
    long_key = "Größe".encode().hex() * 40
    async with open_channel(hop.port) as channel:
        for key in ("k1", long_key, long_key):
            stream = call(channel, metadata=(("x-key", key), ("x-other-bin", b"\x00\xff")))
            assert ("x-echo", key) in tuple(await stream.initial_metadata())
            for message in (b"", b"small", _LARGE, b"after"):
                await stream.write(message)
                assert await stream.read() == message
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF
            assert await stream.code() is grpc.StatusCode.OK


async def test_a_grpc_client_learns_a_status(hop: _Hop) -> None:
    async with open_channel(hop.port) as channel:
        stream = call(channel)
        await stream.write(b"fail")
        assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await stream.details() == "too much, 100 %: ü"
        refused = call(channel, metadata=(("x-key", "wrong"),))
        assert await refused.code() is grpc.StatusCode.PERMISSION_DENIED
        unknown = call(channel, "/a.B/C")
        assert await unknown.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_many_grpc_calls_run_on_one_connection(hop: _Hop) -> None:
    async with open_channel(hop.port) as channel:
        streams = [call(channel, wait_for_ready=True) for _ in range(40)]

        async def talk(number: int, stream: Any) -> None:
            for turn in range(5):
                message = b"%d %d" % (number, turn) * (turn * 1000 + 1)
                await stream.write(message)
                assert await stream.read() == message
            await stream.done_writing()
            assert await stream.code() is grpc.StatusCode.OK

        async with asyncio.timeout(30):
            await asyncio.gather(*(talk(*each) for each in enumerate(streams)))


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_grpc_client_that_goes_is_noticed_at_once(hop: _Hop, how: str) -> None:
    async with open_channel(hop.port) as channel:
        stream = call(channel, timeout=0.3 if how == "deadline" else None)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        echo = hop.calls[0]
        if how == "cancel":
            gone = time.monotonic()
            stream.cancel()
        else:
            assert await stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            gone = time.monotonic()
        await echo.until(lambda: echo.statuses)
        assert time.monotonic() - gone < 0.1
    assert [status.code for status in echo.statuses] == [calls.CANCELLED]


async def test_a_grpc_client_that_does_not_read_holds_the_server_back(hop: _Hop) -> None:
    """And gets everything once it reads."""
    async with open_channel(hop.port, ("grpc.http2.bdp_probe", 0)) as channel:
        stream = call(channel)
        await stream.write(b"x")
        assert await stream.read() == b"x"
        echo = hop.calls[0]
        sent = 0
        while echo.stream.is_ready:
            echo.stream.send(bytes(100_000))
            echo.stream.flush()
            sent += 1
            await asyncio.sleep(0)
        assert sent < 100
        echo.stream.finish()
        echo.stream.flush()
        assert [len(await stream.read()) for _ in range(sent)] == [100_000] * sent
        assert await stream.code() is grpc.StatusCode.OK


async def test_a_server_that_stops_lets_calls_end(hop: _Hop) -> None:
    async with open_channel(hop.port) as channel:
        stream = call(channel)
        await stream.write(b"x")
        await stream.read()
        stopping = asyncio.create_task(hop.server.stop(20))
        await stream.write(b"y")
        assert await stream.read() == b"y"
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
        async with asyncio.timeout(10):
            await stopping


async def test_a_server_cuts_what_does_not_end_in_time(hop: _Hop) -> None:
    heard = _Waiting()
    client = await connect(Address(host=_HOST, port=hop.port), METHOD, (), heard)
    await heard.until(lambda: heard.heads)
    await hop.server.stop(0.05)
    await heard.until(lambda: heard.statuses)
    assert [status.code for status in heard.statuses] == [calls.UNAVAILABLE]
    client.close()


class _GrpcEcho(grpc.GenericRpcHandler):
    """A server of gRPC's own."""

    def __init__(self) -> None:
        self.has_ended = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == METHOD:
            return grpc.stream_stream_rpc_method_handler(self._echo)
        return None

    async def _echo(self, messages: AsyncIterator[bytes], context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        if metadata.get("x-key") == "wrong":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you? 100 % ü")
        await context.send_initial_metadata((("x-echo", metadata.get("x-key", "")),) * 2)
        try:
            await self.go_on.wait()
            async for message in messages:
                await context.write(message)
        finally:
            self.has_ended.set()


@pytest_asyncio.fixture
async def grpc_echo() -> AsyncIterator[tuple[_GrpcEcho, int]]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    echo = _GrpcEcho()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port(f"{_HOST}:0")
    await server.start()
    yield echo, port
    await server.stop(0)


async def dial(port: int, heard: Heard, *metadata: tuple[str, str], method: str = METHOD) -> Client:
    return await connect(Address(host=_HOST, port=port), method, metadata, heard)


async def test_a_grpc_server_is_called(grpc_echo: tuple[_GrpcEcho, int]) -> None:
    heard = _Waiting()
    client = await dial(grpc_echo[1], heard, ("x-key", "k"))
    await heard.until(lambda: heard.heads)
    assert heard.heads[0].count(("x-echo", "k")) == 2
    sent = [b"", b"small", _LARGE, b"after"] * 3
    for message in sent:
        client.stream.send(message)
    client.stream.half_close()
    client.stream.flush()
    await heard.until(lambda: heard.statuses)
    assert heard.messages == sent
    assert heard.statuses == [Status(calls.OK)]
    client.close()


@pytest.mark.parametrize(
    ("key", "method", "code"),
    [
        ("wrong", METHOD, calls.PERMISSION_DENIED),
        ("k", "/a.B/C", calls.UNIMPLEMENTED),
    ],
)
async def test_a_grpc_server_refuses(
    grpc_echo: tuple[_GrpcEcho, int], key: str, method: str, code: int
) -> None:
    heard = _Waiting()
    client = await dial(grpc_echo[1], heard, ("x-key", key), method=method)
    await heard.until(lambda: heard.statuses)
    assert heard.statuses[0].code == code
    assert key != "wrong" or heard.statuses[0].message == "who are you? 100 % ü"
    client.close()


async def test_a_client_that_closes_is_noticed_at_once(grpc_echo: tuple[_GrpcEcho, int]) -> None:
    heard = _Waiting()
    client = await dial(grpc_echo[1], heard)
    await heard.until(lambda: heard.heads)
    client.close()
    async with asyncio.timeout(0.1):
        await grpc_echo[0].has_ended.wait()
    assert heard.statuses == []


async def test_a_grpc_server_that_does_not_read_holds_the_client_back(
    grpc_echo: tuple[_GrpcEcho, int],
) -> None:
    heard = _Waiting()
    grpc_echo[0].go_on.clear()
    client = await dial(grpc_echo[1], heard)
    await heard.until(lambda: heard.heads)
    sent = 0
    while client.stream.is_ready:
        client.stream.send(bytes(100_000))
        client.stream.flush()
        sent += 1
        await asyncio.sleep(0)
    assert sent < 100
    grpc_echo[0].go_on.set()
    await heard.until(lambda: client.stream.is_ready and heard.times_ready)
    await heard.until(lambda: len(heard.messages) == sent)
    client.close()


@pytest.mark.parametrize("is_ours", [True, False])
async def test_tls_with_certificates_of_both_sides(is_ours: bool, tmp_path: Path) -> None:
    """Our server serves gRPC's client and our own; who shows no certificate is not even heard."""
    authority = trustme.CA()
    certificate = authority.issue_cert("core.internal", "127.0.0.1")
    path = tmp_path / "all.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.set_alpn_protocols(["h2"])
    hop = _Hop()
    port = await hop.server.listen(_HOST, 0, tls)
    pem = path.read_bytes()
    if is_ours:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        certificate.configure_cert(context)
        heard = _Waiting()
        client = await connect(
            Address(host=_HOST, port=port),
            METHOD,
            (),
            heard,
            tls=context,
            server_name="core.internal",
        )
        client.stream.send(_LARGE)
        client.stream.flush()
        await heard.until(lambda: heard.messages)
        assert heard.messages == [_LARGE]
        client.close()
        bare = ssl.create_default_context()
        authority.configure_trust(bare)
        # TLS 1.3 lets a client finish before the server has looked.
        anonymous = _Waiting()
        with contextlib.suppress(OSError):
            refused = await connect(Address(host=_HOST, port=port), METHOD, (), anonymous, tls=bare)
            await anonymous.until(lambda: anonymous.statuses)
            refused.close()
        assert anonymous.heads == []
    else:
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), pem, pem)
        async with grpc.aio.secure_channel(f"{_HOST}:{port}", credentials) as channel:
            stream = call(channel)
            await stream.write(_LARGE)
            assert await stream.read() == _LARGE
            await stream.done_writing()
            assert await stream.code() is grpc.StatusCode.OK
    assert len(hop.calls) == 1
    await hop.server.stop(0)


async def test_a_unix_socket(tmp_path: Path) -> None:
    hop = _Hop()
    path = str(tmp_path / "hop.sock")
    await hop.server.listen_unix(path)
    heard = _Waiting()
    client = await connect(Address(path=path), METHOD, (), heard)
    client.stream.send(b"x")
    client.stream.flush()
    await heard.until(lambda: heard.messages)
    assert hop.calls[0].request.is_local
    client.close()
    await hop.calls[0].until(lambda: hop.calls[0].statuses)
    await hop.server.stop(0)


async def test_a_peer_that_speaks_http_1_is_closed(hop: _Hop) -> None:
    reader, writer = await asyncio.open_connection(_HOST, hop.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(5):
        assert b"HTTP/2" in await reader.read()
    writer.close()
