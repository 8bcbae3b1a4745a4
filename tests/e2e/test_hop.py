"""The relay without gRPC's threads: where it runs, who may open it, and that it is gRPC all the same."""

from __future__ import annotations

import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from gateway import KEY, Gateway
from maniac_gateway.v1 import relay_pb2, relay_pb2_grpc
from ports import free_ports
from test_core_tls import EDGE_KEY, Certificates, RemoteEdge, with_core
from upstream import Upstream

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who is connected")
REQUEST = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
HEADERS = {"authorization": f"Bearer {KEY}"}
VERSION = ("x-maniac-relay-version", "2")
SECRET = ("x-maniac-edge-key", EDGE_KEY)
_ESTABLISHED = "01"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def ask_core(channel: grpc.Channel, *metadata: tuple[str, str]) -> Any:
    """Send a completion over a relay of one's own, and return its last frame."""
    body = b'{"messages":[{"role":"user","content":"Hi"}],"model":"mock/m1"}'
    start = relay_pb2.RelayStart(
        authorization=f"Bearer {KEY}", wire=relay_pb2.RELAY_WIRE_CHAT, body=body
    )
    frame = relay_pb2.RelayRequestFrame(call_id=1, start=start)
    waits = iter([relay_pb2.RelayRequest(frames=[frame])])

    def messages() -> Any:
        yield from waits
        # The core ends the stream when this side does.
        answered.wait(30)

    answered = threading.Event()
    stream = relay_pb2_grpc.RelayServiceStub(channel).Relay(
        messages(), metadata=(VERSION, *metadata), timeout=30
    )
    try:
        return next(stream).frames[-1]
    finally:
        answered.set()


def connected_to_port(port: int) -> int:
    """Return how many connections to a TCP port of this machine stand."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == _ESTABLISHED for row in rows)


def test_the_edge_of_serve_uses_the_socket_beside_the_cores(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """It is private, it is gone with the core, and gRPC's own client is served by it as well."""
    gateway = start_gateway(with_core(upstream, ""))
    path = gateway.data_dir / "core.hop"

    assert httpx.post(
        f"{gateway.base_url}/chat/completions", json=REQUEST, headers=HEADERS
    ).is_success
    # The listener has the path, and each connection that it accepted.
    uses = [line for line in Path("/proc/net/unix").read_text().splitlines() if str(path) in line]
    assert len(uses) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with grpc.insecure_channel(f"unix:{path}") as channel:
        assert ask_core(channel).WhichOneof("frame") == "answer"
    gateway.stop()
    assert not path.exists()
    assert "goes by its gRPC port" not in gateway.output()


@pytest.mark.parametrize("metadata", [(), (("x-maniac-edge-key", EDGE_KEY + "x"),)])
def test_only_an_edge_may_open_one(
    start_gateway: Callable[..., Gateway],
    upstream: Upstream,
    metadata: tuple[tuple[str, str], ...],
) -> None:
    """As on the gRPC port."""
    (port,) = free_ports(1)
    lines = f'relay_listen = "127.0.0.1:{port}"'
    gateway = start_gateway(with_core(upstream, lines), {"MANIAC_EDGE_KEY": EDGE_KEY})
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ask_core(channel, *metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert ask_core(channel, SECRET).WhichOneof("frame") == "answer"
    assert EDGE_KEY not in gateway.output()


@pytest.mark.parametrize("has_tls", [False, True])
def test_an_edge_on_another_machine_uses_the_address(
    start_gateway: Callable[..., Gateway],
    upstream: Upstream,
    certificates: Certificates,
    tmp_path: Path,
    has_tls: bool,
) -> None:
    """With the secret in plaintext, or over TLS with certificates of both sides."""
    (port,) = free_ports(1)
    lines, edge = f'relay_listen = "127.0.0.1:{port}"', ""
    if has_tls:
        lines += f'\ntls_cert = "{certificates.core}"\ntls_key = "{certificates.core}"'
        lines += f'\ntls_client_ca = "{certificates.ca}"'
        edge = f'core_ca = "{certificates.ca}"\ncore_cert = "{certificates.client}"'
        edge += f'\ncore_key = "{certificates.client}"'
    environ = {} if has_tls else {"MANIAC_EDGE_KEY": EDGE_KEY}
    gateway = start_gateway(with_core(upstream, lines), environ)
    remote = RemoteEdge(tmp_path / "edge", gateway, edge, environ)
    remote.node.start()
    try:
        assert remote.ask() == 200
        assert connected_to_port(port) == 1
    finally:
        remote.node.stop()
    assert "gRPC port" not in remote.node.output()
    if has_tls:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                ask_core(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_address_that_is_in_use_is_named(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(AssertionError) as caught:
        start_gateway(with_core(upstream, f'relay_listen = "127.0.0.1:{port}"'))
    said = str(caught.value)
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in said
    assert "choose another with [core] relay_listen" in said


def test_an_address_that_is_none_is_said_in_a_line(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    with pytest.raises(AssertionError) as caught:
        start_gateway(with_core(upstream, 'relay_listen = "4151"'))
    assert "[core] relay_listen: '4151' is not HOST:PORT" in str(caught.value)
    assert "Traceback" not in str(caught.value)
