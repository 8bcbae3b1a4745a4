"""Who may send a body, and for whom a request counts, with the real core behind the edge."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable

import grpc
import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway, lasting_window_s
from maniac_gateway.v1 import keys_pb2, keys_pb2_grpc, relay_pb2, relay_pb2_grpc
from upstream import Upstream

MIB = 2**20
Start = Callable[..., Gateway]
CONFIG = """
[core]
rate_limit = {limit}
rate_window_s = {window_s}
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
[edge]
trusted_proxies = ["127.0.0.1"]
"""
BODY = {"model": "mock/m1", "messages": [{"role": "user", "content": "x" * 200_000}]}
FORM = "content-type: multipart/form-data; boundary=xyz"
ROUTES = [
    ("POST", "/v1/chat/completions", ""),
    ("POST", "/v1/chat/completions/register", ""),
    ("POST", "/v1/files", FORM),
    ("POST", "/v1/datasets", ""),
    ("PATCH", "/v1/containers/x", ""),
]


@pytest.mark.parametrize(("verb", "path", "header"), ROUTES)
@pytest.mark.parametrize("key", ["", "mk-unknown"])
def test_no_route_reads_a_body_without_a_key(
    gateway: Gateway, verb: str, path: str, header: str, key: str
) -> None:
    """The refusal comes while the body has hardly begun."""
    lines = [f"{verb} {path} HTTP/1.1", "host: x", f"content-length: {30 * MIB}"]
    lines += [line for line in (header, f"authorization: Bearer {key}" if key else "") if line]
    head = "\r\n".join([*lines, "", ""]).encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(head + b" " * 1000)
        answer = b""
        while data := connection.recv(65536):
            answer += data

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert b"_api_key" in answer


def _gateway(start_gateway: Start, upstream: Upstream, limit: int) -> Gateway:
    config = CONFIG.format(limit=limit, window_s=lasting_window_s(), base_url=upstream.base_url)
    return start_gateway(config)


def test_a_large_body_counts_once_and_is_not_read_above_the_limit(
    start_gateway: Start, upstream: Upstream
) -> None:
    """Asking ahead takes nothing from the window, and a full window refuses what would follow."""
    gateway = _gateway(start_gateway, upstream, 3)
    with httpx.Client(base_url=gateway.base_url, timeout=60) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        left = [
            client.post("/chat/completions", json=BODY).headers["x-ratelimit-remaining"]
            for _ in range(3)
        ]
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {30 * MIB}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)

    assert left == ["2", "1", "0"]
    assert answer.startswith(b"HTTP/1.1 429 ")


def test_a_revoked_key_is_not_read_for(start_gateway: Start, upstream: Upstream) -> None:
    """The core answers for every body anew: nothing at the edge remembers a key."""
    gateway = _gateway(start_gateway, upstream, 0)
    secret = run_command(gateway, "keys", "create", "--name", "brief").strip()
    with httpx.Client(base_url=gateway.base_url, timeout=60) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        before = client.post("/chat/completions", json=BODY)
        listed = run_command(gateway, "keys", "list")
        [key_id] = re.findall(r"^(\S+) .*\bbrief\b", listed, re.MULTILINE)
        run_command(gateway, "keys", "revoke", key_id)
        status = 200
        for _ in range(50):
            status = client.post("/chat/completions", json=BODY).status_code
            if status != 200:
                break

    assert before.status_code == 200
    assert status == 401


def test_callers_without_a_key_count_by_the_address_that_a_proxy_tells(
    start_gateway: Start, upstream: Upstream
) -> None:
    """Two clients of one proxy have a window each; what the client itself wrote ahead of it does not count."""
    gateway = _gateway(start_gateway, upstream, 2)

    def ask(forwarded: str) -> int:
        return httpx.get(
            f"{gateway.base_url}/models", headers={"x-forwarded-for": forwarded}
        ).status_code

    assert [ask("203.0.113.1") for _ in range(3)] == [401, 401, 429]
    assert ask("198.51.100.9, 203.0.113.1") == 429
    assert ask("203.0.113.2") == 401


def test_nobody_but_an_edge_speaks_for_other_addresses(
    start_gateway: Start, upstream: Upstream
) -> None:
    """On the public gRPC port the address is the caller's own, by RPC and by relay, whatever it says."""
    gateway = _gateway(start_gateway, upstream, 2)
    reasons = []
    with grpc.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel:
        stub = keys_pb2_grpc.AccessServiceStub(channel)
        for number in range(3):
            metadata = (("x-maniac-client-address", f"203.0.113.{number}"),)
            with pytest.raises(grpc.RpcError) as caught:
                stub.CheckAccess(keys_pb2.CheckAccessRequest(), metadata=metadata, timeout=30)
            reasons.append(caught.value.code())
        access = relay_pb2.RelayAccess(client_address="203.0.113.9", request_id="r")
        frame = relay_pb2.RelayRequestFrame(call_id=1, access=access)
        relay = relay_pb2_grpc.RelayServiceStub(channel).Relay(
            iter([relay_pb2.RelayRequest(frames=[frame])]),
            metadata=(("x-maniac-relay-version", "2"),),
            timeout=30,
        )
        try:
            relayed = next(relay).frames[0].error.reason
        except grpc.RpcError as err:
            # A core that knows its edges does not even take the stream.
            relayed = err.code()
        relay.cancel()
    from_edge = httpx.get(f"{gateway.base_url}/models", headers={"x-forwarded-for": "203.0.113.9"})

    assert reasons == [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
    assert relayed != 0
    assert from_edge.status_code == 401


LABEL = "l" * 50_000
LOOKED_UP = [
    "containers",
    "files",
    "models",
    "traces",
    "evaluators",
    "datasets",
    "chat/completions",
]


@pytest.mark.parametrize("resource", LOOKED_UP)
def test_a_name_of_50_kilobytes_is_not_found(gateway: Gateway, resource: str) -> None:
    """It is a 404 in the envelope like any other name, however large what repeats it would be."""
    with gateway.client() as client:
        answer = client.get(f"/v1/{resource}/{LABEL}")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"].endswith("_not_found")
    assert len(answer.content) < 4096


@pytest.mark.parametrize(("verb", "path", "header"), ROUTES)
def test_a_body_that_is_cut_off_is_one_line_in_the_log(
    gateway: Gateway, verb: str, path: str, header: str
) -> None:
    """A client that leaves in the middle of its body is nobody's fault."""
    name = f"cut-{verb}{path}".replace("/", "-")
    lines = [
        f"{verb} {path} HTTP/1.1",
        "host: x",
        f"x-request-id: {name}",
        f"content-length: {MIB}",
    ]
    lines += [line for line in (header, f"authorization: Bearer {KEY}") if line]
    before = gateway.output().count("Traceback")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + b'--xyz\r\n{"a":')
    deadline = time.monotonic() + 30
    while name not in gateway.output():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # There is no event across processes to wait for.
    # Whatever else it would log comes before the answer to a later request.
    with gateway.client() as client:
        client.get("/v1/models", headers={"x-request-id": f"after-{name}"})
    while f"after-{name}" not in gateway.output():
        assert time.monotonic() < deadline
        time.sleep(0.02)

    logged = [line for line in gateway.output().splitlines() if f'"{name}"' in line]
    assert len(logged) == 1, logged
    assert '"status":499' in logged[0]
    assert gateway.output().count("Traceback") == before
