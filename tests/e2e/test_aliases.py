"""Aliases: names of the configuration's own for models that stand in for each other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import grpc
import httpx
import pytest
from gateway import CONFIG, KEY, Gateway
from maniac_gateway.v1 import models_pb2, models_pb2_grpc
from upstream import Exchange, Upstream

ALIASES = """
[aliases.fast]
models = ["mock/a", "mock:b", "mock/c"]
[aliases.even]
models = ["mock/a", "mock/b", "mock/c"]
weights = [1, 1, 0]
[aliases.away]
models = ["openai/gpt-4o"]
"""
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def aliased(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = CONFIG.format(base_url=_upstream.base_url) + ALIASES
    gateway = Gateway(tmp_path_factory.mktemp("aliases"), config)
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def http(aliased: Gateway) -> Iterator[httpx.Client]:
    with aliased.client() as client:
        yield client


def fail_all_but(name: str) -> object:
    async def handle(exchange: Exchange) -> None:
        if exchange.json["model"] == name:
            await exchange.answer()
        else:
            await exchange.respond(500, b"{}")

    return handle


def test_an_alias_falls_back_in_order(http: httpx.Client, upstream: Upstream) -> None:
    """The answer names who gave it, and the explanation the alias and all of its candidates."""
    upstream.handler = fail_all_but("c")  # type: ignore[assignment]

    answer = http.post("/v1/chat/completions", json={"model": "fast", "messages": MESSAGES}).json()
    explained = http.get(f"/v1/chat/completions/{answer['id']}/explain").json()

    assert answer["model"] == "mock/c"
    assert explained["requested_model"] == "fast"
    assert explained["candidates"] == ["mock/a", "mock/b", "mock/c"]
    assert [attempt["outcome"] for attempt in explained["attempts"]] == ["failed", "failed", "ok"]


def test_weights_choose_the_first_and_the_rest_follow_in_order(
    http: httpx.Client, upstream: Upstream
) -> None:
    """A weight of 0 is a fallback only."""
    first = set()
    for _ in range(200):
        answer = http.post("/v1/chat/completions", json={"model": "even", "messages": MESSAGES})
        first.add(answer.json()["model"])
        if len(first) == 2:
            break
    upstream.handler = fail_all_but("c")  # type: ignore[assignment]
    fallen = http.post("/v1/chat/completions", json={"model": "even", "messages": MESSAGES}).json()
    tried = http.get(f"/v1/chat/completions/{fallen['id']}/explain").json()["candidates"]

    assert first == {"mock/a", "mock/b"}
    assert fallen["model"] == "mock/c"
    assert tried in (["mock/a", "mock/b", "mock/c"], ["mock/b", "mock/a", "mock/c"])


def test_an_alias_is_a_fallback_and_a_containers_model(
    http: httpx.Client, upstream: Upstream
) -> None:
    """Wherever a model can be named; a container keeps the alias, not what it stands for at the time."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    made = http.post("/v1/containers", json={"label": label, "initial_model": "fast"}).json()
    upstream.handler = fail_all_but("b")  # type: ignore[assignment]
    body = {"model": "mock/x", "models": ["fast"], "messages": MESSAGES}

    as_fallback = http.post("/v1/chat/completions", json=body).json()
    through = http.post(
        "/v1/chat/completions", json={"model": f"maniac:{label}", "messages": MESSAGES}
    ).json()
    of_container = http.get("/v1/models", params={"container": label}).json()["data"]

    assert made["initial_model"] == "fast"
    assert as_fallback["model"] == through["model"] == "mock/b"
    assert [item["id"] for item in of_container] == ["fast"]


def test_aliases_are_listed(aliased: Gateway, http: httpx.Client) -> None:
    """Over HTTP and gRPC, each if any of its models can be called."""
    listed = {item["id"]: item for item in http.get("/v1/models").json()["data"]}
    one = http.get("/v1/models/fast").json()
    with grpc.insecure_channel(aliased.grpc_target) as channel:
        found = (
            models_pb2_grpc.ModelServiceStub(channel)
            .GetModel(
                models_pb2.GetModelRequest(id="fast"),
                metadata=(("authorization", f"Bearer {KEY}"),),
                timeout=60,
            )
            .model
        )
    refused = http.post("/v1/chat/completions", json={"model": "away", "messages": MESSAGES})

    assert {"fast", "even"} <= set(listed)
    assert "away" not in listed
    assert listed["fast"] == one
    assert (one["slug"], one["provider"], one["owned_by"]) == ("fast", None, "maniac")
    assert list(found.alias_models) == ["mock/a", "mock/b", "mock/c"]
    assert refused.json()["error"]["code"] == "provider_key_missing"
