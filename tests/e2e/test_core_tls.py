"""Edges on other machines: TLS to the core, and the credential without which a core takes nobody for an edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from cluster import Node
from gateway import CONFIG, KEY, Gateway
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc, relay_pb2_grpc
from ports import free_ports
from upstream import Upstream

EDGE_KEY = "edge-0123456789abcdefghijklmnopqrstuvwxyz"
HEADERS = {"authorization": f"Bearer {KEY}"}
METADATA = (("authorization", f"Bearer {KEY}"),)
REQUEST = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
Start = Callable[..., "RemoteEdge"]


class Certificates:
    """An authority, the core's certificate for `localhost`, and one for clients, as PEM files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.core = self._write(folder / "core.pem", authority.issue_cert("localhost"))
        self.client = self._write(folder / "client.pem", authority.issue_cert("edge.internal"))
        self.other_ca = folder / "other.pem"
        trustme.CA().cert_pem.write_to_path(self.other_ca)

    @staticmethod
    def _write(path: Path, certificate: trustme.LeafCert) -> Path:
        certificate.private_key_and_cert_chain_pem.write_to_path(path)
        return path


class RemoteEdge:
    """An edge that reaches a core by its TCP port, as from another machine."""

    def __init__(self, folder: Path, gateway: Gateway, edge: str, environ: dict[str, str]) -> None:
        folder.mkdir()
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "edge.toml"
        config.write_text(f"[edge]\n{edge}")
        command = ["edge", f"--config={config}", f"--port={port}"]
        command.append(f"--core=localhost:{gateway.grpc_port}")
        plain = {k: v for k, v in gateway.environ.items() if k != "MANIAC_EDGE_KEY"}
        self.node = Node(command, {**plain, **environ}, folder / "log.txt", self._is_up)

    def ask(self) -> int:
        """Send a completion, and return the status."""
        url = f"{self.url}/v1/chat/completions"
        return httpx.post(url, json=REQUEST, headers=HEADERS, timeout=30).status_code

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start_edge(tmp_path: Path) -> Iterator[Start]:
    started: list[RemoteEdge] = []

    def start(gateway: Gateway, edge: str = "", **environ: str) -> RemoteEdge:
        remote = RemoteEdge(tmp_path / f"edge-{len(started)}", gateway, edge, environ)
        started.append(remote)
        remote.node.start()
        return remote

    yield start
    for remote in started:
        remote.node.stop()


def with_core(upstream: Upstream, lines: str) -> str:
    """Return a configuration whose `[core]` table has more lines."""
    config = CONFIG.format(base_url=upstream.base_url)
    return config.replace("[core]\n", f"[core]\n{lines}\n", 1)


def relay_status(target: str, metadata: tuple[tuple[str, str], ...]) -> str:
    """Open a relay and close it; return how the core ended it."""
    sent = (*metadata, ("x-maniac-relay-version", "2"))
    with grpc.insecure_channel(target) as channel:
        try:
            list(relay_pb2_grpc.RelayServiceStub(channel).Relay(iter([]), metadata=sent))
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def test_the_shared_secret_makes_an_edge(
    upstream: Upstream, start_gateway: Callable[..., Gateway], start_edge: Start
) -> None:
    """With the secret the relay opens; without it the edge says once what is missing, and answers by plain RPCs."""
    gateway = start_gateway(with_core(upstream, ""), {"MANIAC_EDGE_KEY": EDGE_KEY})
    target = gateway.grpc_target

    assert relay_status(target, ()) == "PERMISSION_DENIED"
    assert relay_status(target, (("x-maniac-edge-key", EDGE_KEY + "x"),)) == "PERMISSION_DENIED"
    assert relay_status(target, (("x-maniac-edge-key", EDGE_KEY),)) == "OK"
    knows, does_not = start_edge(gateway, MANIAC_EDGE_KEY=EDGE_KEY), start_edge(gateway)
    assert (knows.ask(), does_not.ask()) == (200, 200)
    assert "refuses the relay" not in knows.node.output()
    assert does_not.node.output().count("refuses the relay") == 1
    assert "MANIAC_EDGE_KEY" in does_not.node.output()


def test_a_core_with_a_certificate_is_reached_over_tls_only(
    upstream: Upstream,
    start_gateway: Callable[..., Gateway],
    start_edge: Start,
    certificates: Certificates,
) -> None:
    """An edge that trusts the authority is served; one without TLS, or of another authority, gets no answer."""
    lines = f'tls_cert = "{certificates.core}"\ntls_key = "{certificates.core}"'
    gateway = start_gateway(with_core(upstream, lines), {"MANIAC_EDGE_KEY": EDGE_KEY})
    # Its own edge comes over the Unix socket, which needs no certificate.
    own = httpx.post(f"{gateway.base_url}/chat/completions", json=REQUEST, headers=HEADERS)
    trusting = start_edge(gateway, f'core_ca = "{certificates.ca}"', MANIAC_EDGE_KEY=EDGE_KEY)
    plain = start_edge(gateway, MANIAC_EDGE_KEY=EDGE_KEY)
    wary = start_edge(gateway, f'core_ca = "{certificates.other_ca}"', MANIAC_EDGE_KEY=EDGE_KEY)

    assert own.status_code == 200
    assert [edge.ask() for edge in (trusting, plain, wary)] == [200, 503, 503]


def test_a_core_may_ask_clients_for_a_certificate(
    upstream: Upstream,
    start_gateway: Callable[..., Gateway],
    start_edge: Start,
    certificates: Certificates,
) -> None:
    """With `tls_client_ca` a client certificate makes an edge, and who has none is not even connected."""
    lines = (
        f'tls_cert = "{certificates.core}"\ntls_key = "{certificates.core}"\n'
        f'tls_client_ca = "{certificates.ca}"'
    )
    gateway = start_gateway(with_core(upstream, lines))
    trusts = f'core_ca = "{certificates.ca}"'
    shows = f'core_cert = "{certificates.client}"\ncore_key = "{certificates.client}"'
    certified, anonymous = start_edge(gateway, f"{trusts}\n{shows}"), start_edge(gateway, trusts)

    assert (certified.ask(), anonymous.ask()) == (200, 503)
    assert "no relay" not in certified.node.output()
    client = certificates.client.read_bytes()
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes(), client, client)
    with grpc.secure_channel(f"localhost:{gateway.grpc_port}", credentials) as channel:
        request = chat_pb2.ListChatCompletionsRequest()
        chat = chat_pb2_grpc.ChatServiceStub(channel)
        assert chat.ListChatCompletions(request, metadata=METADATA, timeout=10).completions


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tls_cert = "/nowhere.pem"', "belong together"),
        ('tls_client_ca = "/nowhere.pem"', "needs `tls_cert`"),
        ('tls_cert = "/nowhere.pem"\ntls_key = "/nowhere.pem"', "/nowhere.pem cannot be read"),
    ],
)
def test_certificates_that_cannot_be_used_are_said_in_a_line(
    upstream: Upstream, start_gateway: Callable[..., Gateway], line: str, said: str
) -> None:
    """The start ends with the setting and the file, and without a traceback."""
    with pytest.raises(AssertionError) as caught:
        start_gateway(with_core(upstream, line))

    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_secret_that_is_too_short_is_refused(
    upstream: Upstream, start_gateway: Callable[..., Gateway]
) -> None:
    """It could be guessed; it is not printed either."""
    with pytest.raises(AssertionError) as caught:
        start_gateway(with_core(upstream, ""), {"MANIAC_EDGE_KEY": "hunter2"})

    assert "MANIAC_EDGE_KEY is shorter than 16 characters" in str(caught.value)
    assert "hunter2" not in str(caught.value)
