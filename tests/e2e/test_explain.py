"""How a completion came about: GET /v1/chat/completions/{id}/explain."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from cli import run_command
from gateway import Gateway
from upstream import Exchange, Upstream

USER = {"role": "user", "content": "Hi"}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def ask(http: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "mock/m1", "messages": [USER], **more}
    return http.post("/v1/chat/completions", json=body)


def explain(http: httpx.Client, completion_id: str, base: str = "/v1") -> dict[str, Any]:
    response = http.get(
        f"{base}/chat/completions/{completion_id}/explain",
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
def test_a_fallback_through_a_container_is_explained(
    http: httpx.Client, upstream: Upstream, base: str
) -> None:
    """Candidates, merged and dropped parameters, and both attempts with outcome, status and times."""

    async def answer(exchange: Exchange) -> None:
        if exchange.json["model"] == "first":
            await exchange.respond(500, b'{"error":{"message":"boom"}}')
        else:
            await exchange.answer()

    upstream.handler = answer
    label = f"box-{uuid.uuid4().hex[:8]}"
    container = {
        "label": label,
        "initial_model": "mock/first",
        "default_parameters": {"temperature": 0.5, "top_p": 0.9},
    }
    http.post("/v1/containers", json=container).raise_for_status()
    made = ask(
        http, model=f"maniac:{label}", models=["mock/second"], temperature=1, logprobs=True
    ).json()
    found = explain(http, made["id"], base)
    first, second = found["attempts"]

    assert found["object"] == "chat.completion.explanation"
    assert (found["id"], found["created"]) == (made["id"], made["created"])
    assert found["requested_model"] == f"maniac:{label}"
    assert found["candidates"] == ["mock/first", "mock/second"]
    assert (found["model"], found["provider"]) == ("mock/second", "mock")
    assert (found["status"], found["error_code"]) == ("completed", None)
    assert found["parameters"] == {"temperature": 1}
    assert found["dropped_params"] == ["logprobs"]
    assert (first["number"], first["model"], first["outcome"]) == (0, "first", "failed")
    assert (first["http_status"], first["error"]["code"]) == (500, "upstream_error")
    assert "boom" in first["error"]["message"]
    assert (second["number"], second["model"], second["outcome"]) == (1, "second", "ok")
    assert second["error"] is None
    assert second["usage"]["total_tokens"] == 12
    assert datetime.fromisoformat(first["started_at"]) <= datetime.fromisoformat(
        second["started_at"]
    )
    assert 0 < first["latency_ms"] + second["latency_ms"] <= found["latency_ms"]
    assert found["usage_source"] == "provider"
    assert (found["prices"], found["spend"]) == (None, None)


def test_merged_parameters_of_a_container_are_shown(http: httpx.Client, upstream: Upstream) -> None:
    """What was sent is what the container's defaults and the request make together."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    defaults = {"temperature": 0.5, "top_p": 0.9}
    http.post(
        "/v1/containers",
        json={"label": label, "initial_model": "mock/m1", "default_parameters": defaults},
    ).raise_for_status()
    made = ask(http, model=f"maniac:{label}", temperature=1).json()
    found = explain(http, made["id"])

    assert found["container"] == label
    assert found["parameters"] == {"temperature": 1, "top_p": 0.9}
    assert upstream.last.json["top_p"] == 0.9


def test_what_is_not_stored_is_explained_without_content(
    http: httpx.Client, upstream: Upstream
) -> None:
    """A `store: false` request has its route, numbers and reasons, and no word of anyone."""

    async def answer(exchange: Exchange) -> None:
        if exchange.json["model"] == "first":
            await exchange.respond(500, b'{"error":{"message":"You said: Hi"}}')
        else:
            await exchange.answer()

    upstream.handler = answer
    made = ask(http, model="mock/first", models=["mock/m1"], store=False, temperature=0.3).json()
    found = explain(http, made["id"])

    assert http.get(f"/v1/chat/completions/{made['id']}").status_code == 404
    assert found["parameters"] is None
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["failed", "ok"]
    assert found["attempts"][0]["error"] == {"code": "upstream_error", "message": None}
    assert found["usage"]["total_tokens"] == 12
    assert found["candidates"] == ["mock/first", "mock/m1"]


def test_a_refused_request_is_explained(gateway: Gateway, http: httpx.Client) -> None:
    """A request that reached no provider has no attempt, and the reason."""
    request_id = f"refused-{uuid.uuid4().hex}"
    http.post(
        "/v1/chat/completions",
        json={"model": "nobody/nothing", "messages": [USER]},
        headers={"x-request-id": request_id},
    )
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        query = "SELECT id FROM completions WHERE request_id = ?"
        (completion_id,) = database.execute(query, [request_id]).fetchone()
    found = explain(http, completion_id)

    assert (found["status"], found["error_code"]) == ("rejected", "model_not_found")
    assert (found["attempts"], found["usage"]) == ([], None)
    assert found["request_id"] == request_id


@pytest.mark.usefixtures("upstream")
def test_ids_that_are_not_there_or_elsewhere_are_404(gateway: Gateway, http: httpx.Client) -> None:
    """A key of another project learns nothing."""
    made = ask(http).json()
    secret = run_command(
        gateway, "keys", "create", "--create-project", "--project", "explain-other"
    ).strip()
    foreign = httpx.get(
        f"{gateway.base_url}/chat/completions/{made['id']}/explain",
        headers={"authorization": f"Bearer {secret}"},
    )
    unknown = http.get("/v1/chat/completions/nothing/explain")

    for response in (foreign, unknown):
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "completion_not_found"
