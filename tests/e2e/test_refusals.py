"""Requests that are refused after authentication, without a record: counted by reason, for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from cli import run_command
from gateway import Gateway, lasting_window_s
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc, usage_pb2, usage_pb2_grpc
from upstream import Exchange, Upstream, answer_or_stream

CONFIG = """
[core]
rate_limit = 0
rate_window_s = {window_s}
concurrent_requests = 3
concurrent_requests_per_key = 2
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
"""
BODY = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def limited(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with few places."""
    config = CONFIG.format(base_url=_upstream.base_url, window_s=lasting_window_s())
    gateway = Gateway(tmp_path_factory.mktemp("limited"), config)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def make_client(limited: Gateway) -> Iterator[Callable[..., httpx.Client]]:
    """Return a function that makes a client with a key of its own."""
    made: list[httpx.Client] = []

    def make(*options: str) -> httpx.Client:
        secret = run_command(limited, "keys", "create", "--create-project", *options).strip()
        client = httpx.Client(
            base_url=limited.url, headers={"authorization": f"Bearer {secret}"}, timeout=60
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def _refused(client: httpx.Client) -> dict[str, int]:
    report = client.get("/v1/usage").raise_for_status().json()
    return {one["code"]: one["request_count"] for one in report["refused"]}


@pytest.mark.usefixtures("upstream")
def test_what_limits_and_the_edge_refuse_is_counted_by_reason(
    limited: Gateway, make_client: Callable[..., httpx.Client]
) -> None:
    """Without a row each: neither in lists nor in the totals of requests. A request with a record is not among it."""
    narrow = make_client("--rate", "4", "--project", "refused")
    other = make_client("--project", "refused")
    assert _refused(other) == {}
    assert narrow.post(CHAT, json=BODY).status_code == 200
    assert narrow.post(CHAT, json={**BODY, "model": "nobody/knows"}).status_code == 404
    assert narrow.post(CHAT, content=b"{").status_code == 400
    assert narrow.post(CHAT, json={**BODY, "temperature": "warm"}).status_code == 400
    for _ in range(3):
        assert narrow.post(CHAT, json=BODY).status_code == 429
    expected = {"invalid_json": 1, "invalid_value": 1, "rate_limit_exceeded": 3}
    assert _refused(other) == expected
    report = other.get("/v1/usage").json()
    assert report["totals"]["request_count"] == 2
    assert other.get(CHAT).json()["total"] == 1
    by_model = other.get("/v1/usage", params={"model": "mock/m1"}).json()
    assert by_model["refused"] == []
    before = other.get("/v1/usage", params={"from": "2020-01-01", "to": "2020-02-01"}).json()
    assert before["refused"] == []

    with grpc.insecure_channel(limited.grpc_target) as channel:
        answer = usage_pb2_grpc.UsageServiceStub(channel).GetUsage(
            usage_pb2.GetUsageRequest(),
            metadata=(("authorization", other.headers["authorization"]),),
        )
    assert {one.code: one.request_count for one in answer.refused} == expected
    printed = run_command(limited, "usage", "--project", "refused")
    assert "refused without a record: 3 (rate_limit_exceeded)" in printed


def test_what_a_core_refuses_over_grpc_is_counted(
    limited: Gateway, make_client: Callable[..., httpx.Client], upstream: Upstream
) -> None:
    """Internal services are told the same."""
    del upstream
    client = make_client("--organization", "services")
    metadata = (("authorization", client.headers["authorization"]),)
    with grpc.insecure_channel(limited.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        params = chat_pb2.ChatCompletionParams(model="mock/m1", n=2)
        with pytest.raises(grpc.RpcError):
            stub.CreateChatCompletion(
                chat_pb2.CreateChatCompletionRequest(params=params), metadata=metadata
            )
        with pytest.raises(grpc.RpcError):
            list(
                stub.StreamChatCompletion(
                    chat_pb2.StreamChatCompletionRequest(params=params), metadata=metadata
                )
            )
    assert sum(_refused(client).values()) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_requests_at_the_same_time_are_capped_for_a_key_and_its_organization(
    make_client: Callable[..., httpx.Client], upstream: Upstream, *, stream: bool
) -> None:
    """Above the cap there is a 429 at once, and a place is free as soon as a request has ended, however it did."""
    released = upstream.event()

    async def hold(exchange: Exchange) -> None:
        await released.wait()
        await answer_or_stream(exchange)

    upstream.handler = hold
    organization = f"busy-{stream}"
    first, second = (make_client("--organization", organization) for _ in range(2))
    body = {**BODY, "stream": stream}
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(first.post, CHAT, json=body) for _ in range(2)]
        upstream.wait_for_requests(2)
        refused = first.post(CHAT, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            429,
            "rate_limit_exceeded",
        )
        assert refused.headers["retry-after"] == "1"
        assert "of the key" in refused.json()["error"]["message"]
        running.append(pool.submit(second.post, CHAT, json=body))
        upstream.wait_for_requests(3)
        refused = second.post(CHAT, json=body)
        assert refused.status_code == 429
        assert "of the organization" in refused.json()["error"]["message"]
        upstream.set(released)
        assert [one.result().status_code for one in running] == [200] * 3
    upstream.handler = answer_or_stream
    for _ in range(4):
        assert first.post(CHAT, json=body).status_code == 200
    assert _refused(first) == {"rate_limit_exceeded": 2}
