"""Traces over HTTP, gRPC and the official client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway
from maniac_gateway.v1 import chat_pb2, traces_pb2, traces_pb2_grpc
from pages import run_example
from upstream import Exchange, Upstream

# The official client's own models shadow an attribute of their base class.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

METADATA = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture
def http(gateway: Gateway, upstream: Upstream) -> Iterator[httpx.Client]:
    del upstream  # With nothing left of other tests.
    with gateway.client() as client:
        yield client


@pytest.fixture
def trace_id() -> str:
    return f"trace-{uuid.uuid4().hex}"


def ask(http: httpx.Client, trace: dict[str, Any], **more: Any) -> str:
    """Send a request of a trace and return the id of its completion."""
    body = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}], "trace": trace}
    response = http.post("/v1/chat/completions", json={**body, **more})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def get(http: httpx.Client, trace_id: str) -> dict[str, Any]:
    response = http.get(f"/v1/traces/{quote(trace_id, safe='')}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_requests_add_up_to_their_trace(
    http: httpx.Client, upstream: Upstream, trace_id: str
) -> None:
    """Counts, the last name, the last context and the spans with their attempts come from what was captured."""
    label = f"box-{trace_id}"
    http.post(
        "/v1/containers", json={"label": label, "initial_model": "mock/m1"}
    ).raise_for_status()
    first = ask(http, {"id": trace_id, "name": "old", "source": "web", "span_id": "a"})
    second = ask(http, {"id": trace_id, "name": "new", "span_id": "a"}, model=f"maniac:{label}")
    third = ask(http, {"id": trace_id, "span_id": "b", "parent_span_id": "a"})

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(400, b'{"error":{"message":"no"}}')

    upstream.handler = fail
    trace = {"id": trace_id, "metadata": {"k": [1]}}
    body = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}], "trace": trace}
    assert http.post("/v1/chat/completions", json=body).status_code == 400
    found = get(http, trace_id)
    listed = http.get("/v1/traces?limit=1").json()["data"][0]

    assert (found["id"], found["name"], found["source"]) == (trace_id, "new", "web")
    assert (found["request_count"], found["container_count"], found["error_count"]) == (4, 1, 1)
    assert found["trace_context"]["metadata"] == {"k": [1]}
    assert found["trace_context"]["name"] is None
    spans = {span["span_id"]: span for span in found["spans"]}
    assert spans.keys() == {"a", "b", None}
    assert spans["a"]["attempt_count"] == 2
    assert spans["a"]["inference_log_ids"] == [first, second]
    assert spans["a"]["latest_inference_log_id"] == second
    assert spans["a"]["container_count"] == 1
    assert spans["b"]["parent_span_id"] == "a"
    assert spans["b"]["inference_log_ids"] == [third]
    assert spans[None]["latest_status"] == "failed"
    assert [span["span_id"] for span in found["spans"]] == ["a", "b", None]
    assert found["first_seen"] <= found["last_seen"]
    assert listed["id"] == trace_id
    assert (listed["success_count"], listed["error_count"]) == (3, 1)
    assert isinstance(listed["spend"], int)


def test_unstored_requests_count_without_content(http: httpx.Client, trace_id: str) -> None:
    """`store: false` leaves the id and the numbers; neither name nor metadata are kept."""
    made = ask(http, {"id": trace_id, "name": "secret", "metadata": {"a": 1}}, store=False)
    found = get(http, trace_id)

    assert (found["request_count"], found["name"]) == (1, None)
    assert found["trace_context"]["metadata"] is None
    assert found["spans"][0]["inference_log_ids"] == [made]
    assert http.get(f"/v1/chat/completions/{made}").status_code == 404


@pytest.mark.parametrize(
    "id_part",
    ["a/b", "/a//b/", "a?b=c&d", "a#b", "50%", "%41", "%2F", "..", "ü é\t", "a\\b", "+ +", "?"],
)
def test_ids_have_any_characters(http: httpx.Client, id_part: str) -> None:
    """An escaped id is found as it was sent, under both base paths, and nothing else is found by it."""
    trace_id = f"{id_part}{uuid.uuid4().hex}{id_part}"
    ask(http, {"id": trace_id})
    path = f"traces/{quote(trace_id, safe='')}"

    assert get(http, trace_id)["id"] == trace_id
    assert http.get(f"/api/v1/{path}").json()["id"] == trace_id
    assert http.get(f"/v1/{path}x").status_code == 404


@pytest.mark.parametrize("id_part", ["a/b", "a?b=c&d", "50%", "%41", "a b", "x//y"])
def test_the_official_client_reads_traces(
    gateway: Gateway, http: httpx.Client, id_part: str
) -> None:
    """It escapes nothing in ids, and finds its traces all the same; its models accept the answers."""
    import maniac
    from maniac import types

    trace_id = f"{uuid.uuid4().hex}{id_part}"
    ask(http, {"id": trace_id, "span_id": "s"})
    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        found = client.traces.retrieve(trace_id)
        listed = client.traces.list(limit=1)
        with pytest.raises(maniac.NotFoundError):
            client.traces.retrieve(f"{trace_id}/no")

    assert types.TraceRes.model_validate(found).id == trace_id
    assert types.TraceListRes.model_validate(listed).data[0].id == trace_id


async def test_the_official_asynchronous_client_reads_traces(
    gateway: Gateway, http: httpx.Client, trace_id: str
) -> None:
    """The same methods, asynchronously."""
    import maniac

    ask(http, {"id": trace_id})
    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        assert (await client.traces.retrieve(trace_id))["id"] == trace_id
        assert (await client.traces.list(limit=1))["data"][0]["id"] == trace_id


def test_the_list_is_paged_newest_first(http: httpx.Client, trace_id: str) -> None:
    """Pages follow one another without gaps, and `total` counts all."""
    before = http.get("/v1/traces").json()["total"]
    for number in range(3):
        ask(http, {"id": f"{trace_id}-{number}"})
    whole = http.get("/v1/traces?limit=3").json()
    pages = [http.get(f"/v1/traces?limit=1&offset={n}").json()["data"][0] for n in range(3)]

    assert whole.keys() == {"object", "data", "total"}
    assert whole["total"] == before + 3
    assert pages == whole["data"]
    assert {item["id"] for item in pages} == {f"{trace_id}-{number}" for number in range(3)}


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("offset=-1", "offset"), ("limit=x", "limit")],
)
def test_bad_pages_are_refused(http: httpx.Client, query: str, field: str) -> None:
    """Out of range is 422 with the field."""
    response = http.get(f"/v1/traces?{query}")

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", field]


def test_other_projects_and_unknown_ids_are_not_found(
    gateway: Gateway, http: httpx.Client, trace_id: str
) -> None:
    """A trace is its project's own."""
    ask(http, {"id": trace_id})
    made = run_command(
        gateway, "keys", "create", "--create-project", "--name", "x", "--project", "other"
    )
    key = next(word for word in made.split() if word.startswith("mk-"))
    stranger = http.get(f"/v1/traces/{trace_id}", headers={"authorization": f"Bearer {key}"})
    unknown = http.get("/v1/traces/no%20such", headers={"content-type": "application/json"})

    assert stranger.status_code == unknown.status_code == 404
    assert stranger.json()["error"]["code"] == "trace_not_found"


def test_traces_over_grpc(gateway: Gateway, http: httpx.Client, trace_id: str) -> None:
    """An internal service reads one, and pages through all by token."""
    ids = [f"{trace_id}/{number}?" for number in range(2)]
    for one in ids:
        made = ask(http, {"id": one, "span_id": "s", "source": "web"})
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = traces_pb2_grpc.TraceServiceStub(channel)
        found = stub.GetTrace(traces_pb2.GetTraceRequest(id=ids[1]), metadata=METADATA).trace
        page = stub.ListTraces(traces_pb2.ListTracesRequest(page_size=1), metadata=METADATA)
        after = stub.ListTraces(
            traces_pb2.ListTracesRequest(page_size=1, page_token=page.next_page_token),
            metadata=METADATA,
        )
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetTrace(traces_pb2.GetTraceRequest(id="no such"), metadata=METADATA)

    assert found.source == "web"
    assert found.spans[0].span_id == "s"
    assert list(found.spans[0].completion_ids) == [made]
    assert found.spans[0].latest_status == chat_pb2.COMPLETION_STATUS_COMPLETED
    assert {page.traces[0].id, after.traces[0].id} == set(ids)
    assert page.total_size >= 2
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("http")
def test_the_example_of_the_page_runs(gateway: Gateway) -> None:
    """docs/traces.md prints what it says."""
    assert run_example(gateway, "traces.md") == (
        "checkout 3 requests\naddress None 2 completed\nconfirm address 1 completed\n"
    )
