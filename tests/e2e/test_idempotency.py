"""Requests that are repeated under one Idempotency-Key."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from gateway import CONFIG, KEY, Gateway
from upstream import Exchange, Upstream, answer_or_stream

BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def key() -> dict[str, str]:
    return {"idempotency-key": uuid.uuid4().hex}


def post(http: httpx.Client, key: dict[str, str], **changes: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json={**BODY, **changes}, headers=key)


@pytest.mark.parametrize("store", [True, False])
def test_a_repeat_returns_the_first_result(
    http: httpx.Client, upstream: Upstream, key: dict[str, str], *, store: bool
) -> None:
    """The provider is called once, and the answer is the same, id included."""
    first = post(http, key, store=store)
    second = post(http, key, store=store)

    assert second.status_code == 200
    assert second.json() == first.json()
    assert len(upstream.exchanges) == 1


def test_a_repeated_stream_is_the_same_answer(
    http: httpx.Client, upstream: Upstream, key: dict[str, str]
) -> None:
    """A stream that is repeated has the id, text, finish reason and usage of the first one."""

    def read(response: httpx.Response) -> tuple[set[str], str, list[str], int]:
        lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert lines[-1] == "[DONE]"
        chunks = [json.loads(line) for line in lines[:-1]]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        return (
            {chunk["id"] for chunk in chunks},
            "".join(choice["delta"].get("content") or "" for choice in choices),
            [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
            chunks[-1]["usage"]["total_tokens"],
        )

    options = {"stream": True, "stream_options": {"include_usage": True}}
    first = read(post(http, key, **options))
    second = read(post(http, key, **options))

    assert second == first
    assert first[1:] == ("Hello!", ["stop"], 12)
    assert len(upstream.exchanges) == 1


def test_a_concurrent_duplicate_waits_for_the_first(
    http: httpx.Client, upstream: Upstream, key: dict[str, str]
) -> None:
    """A duplicate that comes while the first one runs gets its result, without a call of its own."""
    go_on = upstream.event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await answer_or_stream(exchange)

    upstream.handler = slow
    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(post, http, key) for _ in range(5)]
        upstream.wait_for_requests(1)
        upstream.set(go_on)
        answers = [one.result().json() for one in running]

    assert len({answer["id"] for answer in answers}) == 1
    assert len(upstream.exchanges) == 1


@pytest.mark.usefixtures("upstream")
def test_another_body_under_the_same_key_is_a_conflict(
    http: httpx.Client, key: dict[str, str]
) -> None:
    """The second body is refused for good, whether it differs in a parameter or in being streamed."""
    post(http, key).raise_for_status()
    for changes in ({"temperature": 0.5}, {"stream": True}):
        refused = post(http, key, **changes)
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "idempotency_key_reused"
        assert refused.headers["x-should-retry"] == "false"


def test_a_failed_request_frees_its_key(
    http: httpx.Client, upstream: Upstream, key: dict[str, str]
) -> None:
    """A retry after a failure runs anew."""

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(500, b'{"error":{"message":"boom"}}')

    upstream.handler = fail
    failed = post(http, key)
    upstream.handler = answer_or_stream
    retried = post(http, key)

    assert failed.status_code == 502
    assert retried.status_code == 200
    assert len(upstream.exchanges) == 2


def test_keys_outlive_the_process(
    start_gateway: Any, upstream: Upstream, key: dict[str, str]
) -> None:
    """The result is repeated after a restart too."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    with gateway.client() as client:
        first = post(client, key).json()
    gateway.stop()
    gateway.start()
    with gateway.client() as client:
        second = post(client, key).json()

    assert second == first
    assert len(upstream.exchanges) == 1


@pytest.mark.usefixtures("upstream")
def test_the_openai_client_passes_a_key(gateway: Gateway, key: dict[str, str]) -> None:
    """The header of the official client is honoured."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
        ids = {
            client.chat.completions.create(
                model="mock/m1", messages=BODY["messages"], extra_headers=key
            ).id
            for _ in range(2)
        }

    assert len(ids) == 1
