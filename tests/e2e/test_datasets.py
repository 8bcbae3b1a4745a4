"""Datasets over HTTP, gRPC and the official client; the filters themselves are in tests/storage."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import CONFIG, KEY, Gateway
from maniac_gateway.v1 import chat_pb2, datasets_pb2, datasets_pb2_grpc
from pages import run_example
from upstream import Upstream

# The official client's own models shadow an attribute of their base class.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

METADATA = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def container(http: httpx.Client) -> dict[str, Any]:
    """A container with three completions: 0 without an answer, 1, and 2, the newest."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    body = {"label": label, "initial_model": "mock/m1"}
    made: dict[str, Any] = http.post("/v1/containers", json=body).raise_for_status().json()
    items = [
        {
            "input": {"model": "mock/m1", "messages": [{"role": "user", "content": f"Q{n}"}]},
            "output": {
                "id": f"{label}-{n}",
                "created": 1_700_000_000 + n,
                "model": "mock/m1",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": f"A{n}"},
                    }
                ]
                if n
                else [],
            },
            "tags": ["even"] if n % 2 == 0 else [],
            "metadata": {"n": n},
        }
        for n in range(3)
    ]
    http.post(
        "/v1/chat/completions/register", json={"container": label, "items": items}
    ).raise_for_status()
    return made


def take(http: httpx.Client, container: dict[str, Any], **more: Any) -> str:
    body = {"name": "d", "container": container["label"], "size": 10, **more}
    response = http.post("/v1/datasets", json=body)
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"id", "message"}
    return str(response.json()["id"])


def content(http: httpx.Client, dataset_id: str, query: str = "") -> list[dict[str, Any]]:
    response = http.get(f"/v1/datasets/{dataset_id}/content{query}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_dataset_is_made_read_listed_and_deleted(
    http: httpx.Client, container: dict[str, Any]
) -> None:
    """The life of a dataset, with the shapes of the contract."""
    filters = [
        {"key": "metadata.n", "operator": "in", "value": [1, 2, 12345678901234567890]},
        {"key": "input.text", "operator": "exists"},
    ]
    dataset_id = take(
        http,
        container,
        name="mine",
        size=5.0,
        filters=filters,
        tags=["t"],
        metadata={"k": {"v": [1]}},
        description="",
    )
    found = http.get(f"/v1/datasets/{dataset_id}").json()
    listed = http.get("/api/v1/datasets", params={"container": container["id"]}).json()
    deleted = http.delete(
        f"/v1/datasets/{dataset_id}", headers={"content-type": "application/json"}
    )
    gone = [
        http.get(f"/v1/datasets/{dataset_id}"),
        http.get(f"/v1/datasets/{dataset_id}/content"),
        http.delete(f"/v1/datasets/{dataset_id}"),
    ]

    assert len(found.pop("content_sha256")) == 64
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "id": dataset_id,
        "object": "dataset",
        "name": "mine",
        "description": "",
        "user_id": None,
        "project_id": container["project_id"],
        "org_id": container["org_id"],
        "container_id": container["id"],
        "requested_size": 5,
        "size": 2,
        "filters": [filters[0], {**filters[1], "value": None}],
        "tags": ["t"],
        "metadata": {"k": {"v": [1]}},
    }
    assert listed.keys() == {"object", "data", "total"}
    assert (listed["total"], listed["data"][0]["id"]) == (1, dataset_id)
    assert deleted.json() == {"object": "dataset", "id": dataset_id, "deleted": True}
    assert [answer.status_code for answer in gone] == [404] * 3
    assert gone[0].json()["error"]["code"] == "dataset_not_found"
    assert http.get(f"/v1/chat/completions?container={container['label']}").json()["total"] == 3


def test_the_content_is_that_of_the_completions(
    http: httpx.Client, container: dict[str, Any]
) -> None:
    """A line per item, newest first, with all that was captured; as training data without what has no answer."""
    dataset_id = take(http, container)
    lines = content(http, dataset_id)
    training = content(http, dataset_id, "?format=fine_tuning")
    head = http.head(f"/v1/datasets/{dataset_id}/content")

    assert [line["id"] for line in lines] == [f"{container['label']}-{n}" for n in (2, 1, 0)]
    assert lines[0].keys() == {"id", "created", "model", "tags", "metadata", "input", "output"}
    assert lines[0]["input"]["messages"] == [{"role": "user", "content": "Q2"}]
    assert lines[0]["output"]["choices"][0]["message"]["content"] == "A2"
    assert (lines[0]["created"], lines[0]["model"]) == (1_700_000_002, "mock/m1")
    assert (lines[0]["tags"], lines[0]["metadata"]) == (["even"], {"n": 2})
    assert lines[2]["output"]["choices"] == []
    assert [line["messages"][-1]["content"] for line in training] == ["A2", "A1"]
    assert head.status_code == 200
    assert (
        head.headers["etag"].strip('"')
        == (http.get(f"/v1/datasets/{dataset_id}").json()["content_sha256"])
    )
    assert http.get(f"/v1/datasets/{dataset_id}/content?format=csv").status_code == 422


def test_lines_can_be_registered_again(http: httpx.Client, container: dict[str, Any]) -> None:
    """What is downloaded is in the form that registration takes."""
    lines = content(http, take(http, container))
    label = f"copy-{uuid.uuid4().hex[:8]}"
    body = {"label": label, "initial_model": "mock/m1"}
    http.post("/v1/containers", json=body).raise_for_status()
    items = [{key: line[key] for key in ("input", "output", "tags", "metadata")} for line in lines]
    for item in items:
        item["output"].pop("id")
    result = http.post(
        "/v1/chat/completions/register", json={"container": label, "items": items}
    ).json()
    copied = content(http, take(http, {"label": label}))

    assert result["summary"]["inserted"] == 3, result
    assert [line["metadata"] for line in copied] == [line["metadata"] for line in lines]


def test_the_same_filters_give_the_same_hash(http: httpx.Client, container: dict[str, Any]) -> None:
    """A dataset never changes, and another one of the same completions has its hash."""
    filters = [{"key": "tags", "operator": "contains", "value": "even"}]
    first, second = (take(http, container, filters=filters) for _ in range(2))
    other = take(http, container)
    hashes = [
        http.get(f"/v1/datasets/{one}").json()["content_sha256"] for one in (first, second, other)
    ]

    assert hashes[0] == hashes[1] != hashes[2]
    assert content(http, first) == content(http, second)


def test_a_large_dataset_is_streamed_whole(http: httpx.Client) -> None:
    """Thousands of items come in order, in many chunks."""
    label = f"large-{uuid.uuid4().hex[:8]}"
    body = {"label": label, "initial_model": "mock/m1"}
    http.post("/v1/containers", json=body).raise_for_status()
    items = [
        {
            "input": {"messages": [{"role": "user", "content": "x" * 1000}]},
            "output": {"id": f"{label}-{n}", "created": n + 1, "choices": []},
        }
        for n in range(3000)
    ]
    register = {"container": label, "items": items}
    http.post("/v1/chat/completions/register", json=register).raise_for_status()
    lines = content(http, take(http, {"label": label}, size=2500))

    assert [line["created"] for line in lines] == list(range(3000, 500, -1))


def test_an_export_that_breaks_off_does_not_look_whole(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """When the core dies in the middle, the client is told that the answer has no end."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    with gateway.client() as http:
        body = {"label": "box", "initial_model": "mock/m1"}
        http.post("/v1/containers", json=body).raise_for_status()
        item = {"input": {"messages": [{"role": "user", "content": "x" * 20_000}]}}
        register = {"container": "box", "items": [item] * 1500}
        http.post("/v1/chat/completions/register", json=register).raise_for_status()
        dataset_id = take(http, {"label": "box"}, size=1500)
        with http.stream("GET", f"/v1/datasets/{dataset_id}/content") as response:
            chunks = response.iter_raw()
            assert response.status_code == 200
            next(chunks)
            gateway.kill_core()
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in chunks:
                    pass


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"name": None}, ["body", "name"]),
        ({"name": ""}, ["body", "name"]),
        ({"name": "x" * 129}, ["body", "name"]),
        ({"size": 0}, ["body", "size"]),
        ({"size": 1.5}, ["body", "size"]),
        ({"size": "1"}, ["body", "size"]),
        ({"size": 10**30}, ["body", "size"]),
        ({"tags": "a"}, ["body", "tags"]),
        ({"metadata": []}, ["body", "metadata"]),
        ({"filters": {}}, ["body", "filters"]),
        ({"filters": [{"key": "id"}]}, ["body", "filters", 0, "operator"]),
        ({"filters": [{"key": "id", "operator": "like"}]}, ["body", "filters", 0, "operator"]),
        ({"filters": [{"key": "x", "operator": "exists"}]}, ["body", "filters", 0, "key"]),
        ({"filters": [{"key": "id", "operator": "equals"}]}, ["body", "filters", 0, "value"]),
        (
            {"filters": [{"key": "id", "operator": "between", "value": [1]}]},
            ["body", "filters", 0, "value"],
        ),
    ],
)
def test_bad_datasets_are_refused(
    http: httpx.Client, container: dict[str, Any], change: dict[str, Any], loc: list[Any]
) -> None:
    """Each mistake is 422 with its place, and nothing is made."""
    body = {"name": "d", "container": container["label"], "size": 10, **change}
    response = http.post("/v1/datasets", json=body)
    made = http.get("/v1/datasets", params={"container": container["label"]}).json()

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == loc
    assert response.json()["error"]["code"] == "validation_error"
    assert made["total"] == 0


def test_what_is_not_there_is_not_found(
    gateway: Gateway, http: httpx.Client, container: dict[str, Any]
) -> None:
    """An unknown container is 404 for a snapshot and empty for a list; datasets are their project's own."""
    dataset_id = take(http, container)
    body = {"name": "d", "container": "no-such", "size": 1}
    output = run_command(
        gateway, "keys", "create", "--create-project", "--name", "x", "--project", "other"
    )
    key = next(word for word in output.split() if word.startswith("mk-"))

    unknown = http.post("/v1/datasets", json=body)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "container_not_found")
    assert http.get("/v1/datasets?container=no-such").json()["data"] == []
    assert http.get("/v1/datasets?limit=101").status_code == 422
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}) as stranger:
        assert stranger.get(f"/v1/datasets/{dataset_id}").status_code == 404
        assert stranger.get(f"/v1/datasets/{dataset_id}/content").status_code == 404
        assert stranger.delete(f"/v1/datasets/{dataset_id}").status_code == 404
        assert stranger.get("/v1/datasets").json()["total"] == 0


async def test_the_official_client_manages_datasets(
    gateway: Gateway, container: dict[str, Any]
) -> None:
    """create, retrieve and list, synchronously and asynchronously; its models accept the answers."""
    import maniac
    from maniac import types

    label = container["label"]
    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        made = client.datasets.create(
            container=label,
            name="d",
            size=10,
            filters=[{"key": "metadata.n", "operator": "greater_than", "value": 0}],
            metadata={"a": 1},
            tags=["t"],
        )
        created = types.DatasetCreateResponse.model_validate(made)
        found = types.Dataset.model_validate(client.datasets.retrieve(created.id))
        listed = types.DatasetList.model_validate(client.datasets.list(container=label))
        with pytest.raises(maniac.BadRequestError, match="key must be one of"):
            client.datasets.create(
                container=label, name="d", size=1, filters=[{"key": "?", "operator": "exists"}]
            )
    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        other = await client.datasets.create(container=label, name="e", size=1)
        assert (await client.datasets.retrieve(other["id"]))["size"] == 1
        assert (await client.datasets.list(container=label))["total"] == 2
        with pytest.raises(maniac.NotFoundError):
            await client.datasets.retrieve("no-such")

    assert found.size == 2
    assert found.filters is not None
    assert found.filters[0].operator == "greater_than"
    assert [one.id for one in listed.data] == [created.id]


def test_datasets_over_grpc(gateway: Gateway, container: dict[str, Any]) -> None:
    """Each RPC, and the refusals of what cannot come over HTTP."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = datasets_pb2_grpc.DatasetServiceStub(channel)

        def create(**fields: Any) -> datasets_pb2.Dataset:
            plain = {"name": "d", "container": container["id"], "requested_size": 10}
            wanted = datasets_pb2.Dataset(**{**plain, **fields})
            request = datasets_pb2.CreateDatasetRequest(dataset=wanted)
            return stub.CreateDataset(request, metadata=METADATA).dataset

        def refused(**fields: Any) -> str:
            with pytest.raises(grpc.RpcError) as caught:
                create(**fields)
            return str(caught.value.code().name)

        def a_filter(operator: int, value: bytes) -> list[datasets_pb2.DatasetFilter]:
            return [datasets_pb2.DatasetFilter(key="id", operator=operator, value_json=value)]

        exists = datasets_pb2.DATASET_FILTER_OPERATOR_EXISTS
        made = create(filters=a_filter(exists, b"not JSON"))
        found = stub.GetDataset(
            datasets_pb2.GetDatasetRequest(id=made.id), metadata=METADATA
        ).dataset
        page = stub.ListDatasets(datasets_pb2.ListDatasetsRequest(page_size=1), metadata=METADATA)
        messages = list(
            stub.ExportDataset(
                datasets_pb2.ExportDatasetRequest(
                    id=made.id, format=chat_pb2.EXPORT_FORMAT_FINE_TUNING
                ),
                metadata=METADATA,
            )
        )
        refusals = [
            refused(requested_size=0),
            refused(container=""),
            refused(metadata_json=b"[1]"),
            refused(filters=a_filter(0, b"1")),
            refused(filters=a_filter(99, b"1")),
            refused(filters=a_filter(datasets_pb2.DATASET_FILTER_OPERATOR_EQUALS, b"{")),
        ]
        stub.DeleteDataset(datasets_pb2.DeleteDatasetRequest(id=made.id), metadata=METADATA)
        with pytest.raises(grpc.RpcError) as caught:
            next(
                stub.ExportDataset(datasets_pb2.ExportDatasetRequest(id=made.id), metadata=METADATA)
            )

    assert found == made == page.datasets[0]
    assert page.next_page_token == made.id
    assert (made.size, made.container) == (3, container["label"])
    assert len(made.content_sha256) == 64
    assert messages[0].dataset == made
    lines = b"".join(message.chunk for message in messages[1:]).splitlines()
    assert [json.loads(line)["messages"][-1]["content"] for line in lines] == ["A2", "A1"]
    assert refusals == ["INVALID_ARGUMENT"] * 6
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("upstream")
def test_the_example_of_the_page_runs(gateway: Gateway) -> None:
    """docs/datasets.md prints what it says."""
    assert run_example(gateway, "datasets.md") == (
        "The dataset was created with 2 completions.\n2\nQuestion 2 1.0\nQuestion 1 0.5\n"
    )
