"""One record per request, on every outcome."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from typing import Any

import httpx
import pytest
from gateway import Gateway
from upstream import Exchange, Upstream, chunk

BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi there"}]}


def post(gateway: Gateway, **changes: Any) -> httpx.Response:
    with gateway.client() as client:
        return client.post("/v1/chat/completions", json={**BODY, **changes})


def records(gateway: Gateway, tag: str) -> list[dict[str, Any]]:
    """Return the ledger rows of requests with that tag, straight from the file."""
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute(
            "SELECT c.*, b.input, b.output FROM completions c"
            " LEFT JOIN completion_bodies b USING (seq) WHERE request_id = ?",
            [tag],
        )
        return [dict(row) for row in rows]


def wait_for_record(gateway: Gateway, tag: str) -> dict[str, Any]:
    """Return the one record of a request that nobody waits for."""
    deadline = time.monotonic() + 60
    while not (found := records(gateway, tag)):
        assert time.monotonic() < deadline, "no record"
        time.sleep(0.02)  # Another process writes it; there is nothing to wait on.
    assert len(found) == 1
    return found[0]


@pytest.mark.usefixtures("upstream")
def test_a_completed_request_is_read_back_with_all_it_brought(gateway: Gateway) -> None:
    """Tags, metadata and trace come back on the record, with usage, spend, provider and model id."""
    extras = {
        "tags": ["a", "b"],
        "metadata": {"user": 7, "deep": {"x": [1, 2.5]}},
        "trace": {"id": "trace/1?#", "span_id": "s1", "metadata": {"k": "v"}},
    }
    created = post(gateway, **extras).json()

    with gateway.client() as client:
        stored = client.get(f"/v1/chat/completions/{created['id']}").json()

    assert "tags" not in created
    assert stored["tags"] == ["a", "b"]
    assert stored["metadata"] == extras["metadata"]
    assert {k: v for k, v in stored["trace"].items() if v is not None} == extras["trace"]
    assert stored["choices"] == created["choices"]
    assert stored["usage"] == created["usage"]
    assert stored["provider"] == "mock"
    assert stored["model_id"]
    assert stored["spend"] is None  # Nobody knows the price of this model: null, never 0.


@pytest.mark.usefixtures("upstream")
def test_store_false_keeps_numbers_and_no_content(gateway: Gateway) -> None:
    """A request that is not to be stored is neither listed nor found, but counted."""
    with gateway.client() as client:
        created = client.post(
            "/v1/chat/completions",
            json={**BODY, "store": False, "tags": ["secret"], "metadata": {"m": 1}},
            headers={"x-request-id": "store-false"},
        ).json()
        found = client.get(f"/v1/chat/completions/{created['id']}")

    row = wait_for_record(gateway, "store-false")
    assert found.status_code == 404
    assert found.json()["error"]["code"] == "completion_not_found"
    assert row["status"] == "completed"
    assert row["input_tokens"] == 9
    assert (row["input"], row["output"], row["tags"], row["metadata"]) == (None,) * 4


def test_a_failed_request_is_recorded_with_its_attempts(
    gateway: Gateway, upstream: Upstream
) -> None:
    """A request that no provider answered is listed with finish_reason error."""

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(500, b'{"error":{"message":"boom"}}')

    upstream.handler = fail
    with gateway.client() as client:
        response = client.post(
            "/v1/chat/completions", json=BODY, headers={"x-request-id": "failed"}
        )
        row = wait_for_record(gateway, "failed")
        stored = client.get(f"/v1/chat/completions/{row['id']}").json()

    assert response.status_code == 502
    assert row["status"] == "failed"
    assert row["error_reason"] == "UPSTREAM_ERROR"
    assert stored["choices"][0]["finish_reason"] == "error"


def test_a_cancelled_stream_keeps_what_arrived_with_estimated_usage(
    gateway: Gateway, upstream: Upstream
) -> None:
    """A client that leaves in mid-stream stops the provider; the record has the text so far."""

    async def endless(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("First words"))
        await exchange.wait_until_gone()

    upstream.handler = endless
    headers = {"x-request-id": "cancelled"}
    with (
        gateway.client() as client,
        client.stream(
            "POST", "/v1/chat/completions", json={**BODY, "stream": True}, headers=headers
        ) as response,
    ):
        for line in response.iter_lines():
            if "First words" in line:
                break
    assert upstream.last.gone.wait(60)

    row = wait_for_record(gateway, "cancelled")
    assert row["status"] == "cancelled"
    assert row["usage_source"] == "estimated"
    assert row["output_tokens"] > 0
    assert row["input_tokens"] > 0
    assert json.loads(row["output"])[0]["message"]["content"] == "First words"


def test_a_cancelled_whole_answer_is_recorded(gateway: Gateway, upstream: Upstream) -> None:
    """A client that gives up waiting leaves a record, and the provider is let go."""

    async def hang(exchange: Exchange) -> None:
        await exchange.wait_until_gone()

    upstream.handler = hang
    with gateway.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(
            "/v1/chat/completions",
            json=BODY,
            headers={"x-request-id": "given-up"},
            timeout=httpx.Timeout(30, read=1),
        )

    upstream.wait_for_requests(1)
    assert upstream.last.gone.wait(60)
    assert wait_for_record(gateway, "given-up")["status"] == "cancelled"


def test_a_stream_that_breaks_is_recorded_as_truncated(
    gateway: Gateway, upstream: Upstream
) -> None:
    """What arrived before the break is kept, and the status says that it is not whole."""

    async def cut(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("Half an ans"))
        exchange.close()

    upstream.handler = cut
    with gateway.client() as client:
        text = client.post(
            "/v1/chat/completions",
            json={**BODY, "stream": True},
            headers={"x-request-id": "truncated"},
        ).text

    row = wait_for_record(gateway, "truncated")
    frames = [line for line in text.splitlines() if line.startswith("data: ")]
    assert json.loads(frames[-2].removeprefix("data: "))["error"]["code"] == "upstream_error"
    assert frames[-1] == "data: [DONE]"
    assert row["status"] == "truncated"
    assert json.loads(row["output"])[0]["message"]["content"] == "Half an ans"


@pytest.mark.usefixtures("upstream")
def test_a_refused_request_leaves_numbers_and_is_not_listed(gateway: Gateway) -> None:
    """An unknown model is recorded as rejected; lists show only requests that reached a provider."""
    with gateway.client() as client:
        client.post(
            "/v1/chat/completions",
            json={**BODY, "model": "nobody/nothing"},
            headers={"x-request-id": "rejected"},
        )
        row = wait_for_record(gateway, "rejected")
        found = client.get(f"/v1/chat/completions/{row['id']}")

    assert row["status"] == "rejected"
    assert found.status_code == 404


@pytest.mark.usefixtures("upstream")
def test_lists_filter_by_model_metadata_and_order(gateway: Gateway) -> None:
    """The JSON body of a GET, its query form, the model in either spelling, order, offset and total agree."""
    made = [
        post(gateway, model=f"mock/list-{i % 2}", metadata={"set": "filters", "i": i}).json()["id"]
        for i in range(4)
    ]
    with gateway.client() as client:

        def listed(query: str, body: Any = None) -> tuple[list[str], int]:
            content = b"" if body is None else json.dumps(body).encode()
            answer = client.request(
                "GET",
                f"/v1/chat/completions?{query}",
                content=content,
                headers={"content-type": "application/json"},
            ).json()
            assert answer.keys() == {"object", "data", "total"}
            return [item["id"] for item in answer["data"]], answer["total"]

        by_body = listed("", {"set": "filters"})
        by_query = listed("metadata[set]=filters")
        ascending = listed("order=asc&limit=2", {"set": "filters"})
        by_model = listed("model=mock:list-1", {"set": "filters"})
        both = listed("", {"set": "filters", "i": 2})
        skipped = listed("offset=3", {"set": "filters"})
        after = listed(f"after={made[2]}", {"set": "filters"})
        nobody = listed("container=unknown")

    assert by_body == by_query == (made[::-1], 4)
    assert ascending == (made[:2], 4)
    assert by_model == ([made[3], made[1]], 2)
    assert both == ([made[2]], 1)
    assert skipped == ([made[0]], 4)
    assert after == ([made[1], made[0]], 4)
    assert nobody == ([], 0)
