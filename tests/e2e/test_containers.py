"""Containers over HTTP, gRPC and the official client, and routing through them."""

from __future__ import annotations

import time
import uuid
from typing import Any

import grpc
import httpx
import pytest
from gateway import INTERNAL_KEY, KEY, Gateway
from google.protobuf.field_mask_pb2 import FieldMask
from maniac_gateway.v1 import containers_pb2, containers_pb2_grpc
from pages import run_example
from upstream import Upstream

METADATA = (("authorization", f"Bearer {KEY}"),)
USER = {"role": "user", "content": "Hi"}


@pytest.fixture
def label() -> str:
    return f"box-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def http(gateway: Gateway) -> Any:
    with gateway.client() as client:
        yield client


def make(http: httpx.Client, label: str, **more: Any) -> dict[str, Any]:
    body = {"label": label, "initial_model": "mock/m1", **more}
    response = http.post("/v1/containers", json=body)
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def sent_through(http: httpx.Client, upstream: Upstream, model: str, **more: Any) -> dict[str, Any]:
    """Send a chat request and return what reached the provider."""
    body = {"model": model, "messages": [USER], **more}
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    sent: dict[str, Any] = upstream.last.json
    return sent


def test_a_container_is_made_read_listed_changed_and_deleted(
    http: httpx.Client, label: str
) -> None:
    """The life of a container; afterwards its label is free again."""
    made = make(http, label, default_parameters={"temperature": 0.5}, default_system_prompt="Be.")
    found = http.get(f"/v1/containers/{label}").json()
    by_id = http.get(f"/v1/containers/{made['id']}").json()
    listed = http.get("/v1/containers?limit=1").json()
    changed = http.patch(f"/v1/containers/{label}", json={"default_system_prompt": None}).json()
    same = http.patch(f"/v1/containers/{label}", json={}).json()
    deleted = http.delete(f"/v1/containers/{label}", headers={"content-type": "application/json"})
    gone = http.get(f"/v1/containers/{label}")
    again = make(http, label)

    assert found == by_id == made
    assert made["object"] == "container"
    assert made["api"] == "chat.completions"
    assert made["deleted_at"] is False
    assert made["default_parameters"] == {"temperature": 0.5}
    assert listed["data"][0]["label"] == label
    assert listed.keys() == {"object", "data", "total"}
    assert changed["default_system_prompt"] is None
    assert changed["default_parameters"] == {"temperature": 0.5}
    assert same == changed
    assert deleted.json() == {"object": "container", "label": label, "deleted": True}
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "container_not_found"
    assert again["id"] != made["id"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"initial_model": "mock/m1"}, 422, "validation_error", "label"),
        ({"label": "x"}, 422, "validation_error", "initial_model"),
        ({"label": "a/b", "initial_model": "mock/m1"}, 422, "validation_error", "label"),
        ({"label": " a", "initial_model": "mock/m1"}, 422, "validation_error", "label"),
        ({"label": "x" * 129, "initial_model": "mock/m1"}, 422, "validation_error", "label"),
        ({"label": "x", "initial_model": "no/model"}, 404, "model_not_found", "initial_model"),
        (
            {"label": "x", "initial_model": "mock/m1", "api": "rerank"},
            501,
            "not_implemented",
            "api",
        ),
        ({"label": "x", "initial_model": "mock/m1", "api": "?"}, 422, "validation_error", "api"),
        (
            {
                "label": "x",
                "initial_model": "mock/m1",
                "default_parameters": {"temperature": "hot"},
            },
            422,
            "validation_error",
            "default_parameters.temperature",
        ),
        *(
            (
                {"label": "x", "initial_model": "mock/m1", "default_parameters": {name: number}},
                422,
                "validation_error",
                f"default_parameters.{name}",
            )
            for name, number in [("max_tokens", 64.5), ("seed", 2**63), ("top_logprobs", 1e300)]
        ),
    ],
)
def test_bad_containers_are_refused(
    http: httpx.Client, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    """Each mistake has its status, code and field; on 422 also `detail`."""
    response = http.post("/v1/containers", json=body)
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert ("detail" in response.json()) == (status == 422)


def test_a_second_live_container_of_a_label_is_a_conflict(http: httpx.Client, label: str) -> None:
    """The conflict is final for clients that retry, and names the container that is there."""
    made = make(http, label)
    response = http.post("/v1/containers", json={"label": label, "initial_model": "mock/m1"})

    assert response.status_code == 409
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "container_exists"
    assert response.json()["error"]["details"]["container"]["id"] == made["id"]


def test_defaults_are_merged_into_a_routed_request(
    http: httpx.Client, upstream: Upstream, label: str
) -> None:
    """The container's prompt and parameters are added; what the request brings wins; the answer names the label."""
    make(
        http,
        label,
        default_system_prompt="Be brief.",
        default_parameters={"temperature": 0.5, "max_tokens": 7, "n": 3, "top_k": 4},
    )
    plain = sent_through(http, upstream, f"maniac:{label}")
    own = sent_through(
        http,
        upstream,
        f"maniac/{label}",
        messages=[{"role": "developer", "content": "Mine."}, USER],
        temperature=1,
        max_completion_tokens=9,
        top_p=None,
    )
    answer = http.post(
        "/v1/chat/completions", json={"model": f"maniac:{label}", "messages": [USER]}
    ).json()
    listed = http.get("/v1/chat/completions", params={"container": f"maniac:{label}"}).json()

    assert plain["messages"] == [{"role": "system", "content": "Be brief."}, USER]
    assert (plain["temperature"], plain["max_tokens"], plain["top_k"]) == (0.5, 7, 4)
    assert "n" not in plain
    assert own["messages"] == [{"role": "developer", "content": "Mine."}, USER]
    assert own["temperature"] == 1
    assert own["max_completion_tokens"] == 9
    assert "max_tokens" not in own
    assert answer["container"] == label
    assert answer["model"] == "mock/m1"
    assert listed["total"] == 3


def test_whole_numbers_reach_the_provider_as_integers(
    http: httpx.Client, upstream: Upstream, label: str
) -> None:
    """Defaults are kept as they came, but 64.0 is sent as 64, as in a request of its own."""
    given = {"max_tokens": 64.0, "seed": 5.0, "temperature": 1.0}
    make(http, label, default_parameters=given)
    sent = sent_through(http, upstream, f"maniac:{label}")

    assert [repr(sent[name]) for name in given] == ["64", "5", "1.0"]


def test_optimized_values_hold_for_the_container_and_not_for_its_models(
    gateway: Gateway, http: httpx.Client, upstream: Upstream, label: str
) -> None:
    """Prefix, optimized prompt, examples and parameters belong to the route without a sub-model."""
    make(http, label, default_system_prompt="Default.", default_parameters={"temperature": 0.1})
    http.post(
        "/v1/models",
        json={
            "container": label,
            "model": "mock:m2",
            "slug": "sub",
            "default_parameters": {"temperature": 0.3},
            "default_system_prompt": "Sub.",
        },
    ).raise_for_status()
    example = {"role": "user", "content": "Example"}
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        containers_pb2_grpc.ContainerServiceStub(channel).UpdateContainer(
            containers_pb2.UpdateContainerRequest(
                container=label,
                values=containers_pb2.Container(
                    system_prompt_prefix="Prefix.",
                    optimized_system_prompt="Optimized.",
                    optimized_parameters_json=b'{"temperature":0.2}',
                    optimized_few_shot_messages_json=b'[{"role":"user","content":"Example"}]',
                ),
                update_mask=FieldMask(
                    paths=[
                        "system_prompt_prefix",
                        "optimized_system_prompt",
                        "optimized_parameters_json",
                        "optimized_few_shot_messages_json",
                    ]
                ),
            ),
            metadata=METADATA,
        )
    route = sent_through(http, upstream, f"maniac:{label}")
    sub = sent_through(http, upstream, f"maniac:{label}:sub")

    assert route["messages"] == [
        {"role": "system", "content": "Prefix.\n\nOptimized."},
        example,
        USER,
    ]
    assert route["temperature"] == 0.2
    assert sub["model"] == "m2"
    assert sub["messages"] == [{"role": "system", "content": "Prefix.\n\nSub."}, USER]
    assert sub["temperature"] == 0.3


def test_the_default_model_can_be_changed_to_a_model_of_the_container(
    http: httpx.Client, upstream: Upstream, label: str
) -> None:
    """`default_model` takes slugs and ids; `best_model_id` says which; null goes back to the initial model."""
    make(http, label)
    attached = http.post(
        "/v1/models", json={"container": label, "model": "mock/m2", "slug": "sub"}
    ).json()
    changed = http.patch(f"/v1/containers/{label}", json={"default_model": "sub"}).json()
    served = sent_through(http, upstream, f"maniac:{label}")["model"]
    http.patch(f"/v1/containers/{label}", json={"default_model": "mock/m3"}).raise_for_status()
    served_by_slug = sent_through(http, upstream, f"maniac:{label}")["model"]
    http.patch(f"/v1/containers/{label}", json={"default_model": None}).raise_for_status()
    served_again = sent_through(http, upstream, f"maniac:{label}")["model"]
    twice = http.post("/v1/models", json={"container": label, "model": "mock/m2", "slug": "sub"})

    assert changed["best_model_id"] == attached["id"]
    assert changed["initial_model"] == "mock/m1"
    assert (served, served_by_slug, served_again) == ("m2", "m3", "m1")
    assert twice.status_code == 409
    assert twice.json()["error"]["code"] == "model_slug_exists"


def test_routing_to_what_is_not_there_is_404(http: httpx.Client, label: str) -> None:
    """An unknown label, an unknown sub-model and a deleted container are all not found."""
    make(http, label)

    def route(model: str) -> tuple[int, str]:
        response = http.post("/v1/chat/completions", json={"model": model, "messages": [USER]})
        return response.status_code, response.json()["error"]["code"]

    assert route(f"maniac:{label}-no") == (404, "container_not_found")
    assert route(f"maniac:{label}:no") == (404, "model_not_found")
    http.delete(f"/v1/containers/{label}").raise_for_status()
    assert route(f"maniac:{label}") == (404, "container_not_found")


@pytest.mark.usefixtures("upstream")
def test_completions_of_a_deleted_container_stay_listed_by_its_id(
    http: httpx.Client, label: str
) -> None:
    """A delete is soft: what was captured is kept."""
    made = make(http, label)
    http.post("/v1/chat/completions", json={"model": f"maniac:{label}", "messages": [USER]})
    http.delete(f"/v1/containers/{label}").raise_for_status()

    assert http.get("/v1/chat/completions", params={"container": made["id"]}).json()["total"] == 1
    assert http.get("/v1/chat/completions", params={"container": label}).json()["total"] == 0


def test_a_change_made_by_another_process_comes_into_effect(
    gateway: Gateway, http: httpx.Client, upstream: Upstream, label: str
) -> None:
    """A core that keeps containers in memory notices what any process changed in the database."""
    import contextlib
    import sqlite3

    make(http, label, default_system_prompt="Before.")
    sent_through(http, upstream, f"maniac:{label}")
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db", timeout=10)) as db, db:
        db.execute(
            "UPDATE containers SET default_system_prompt = 'After.' WHERE label = ?", [label]
        )
    changed = time.monotonic()
    while sent_through(http, upstream, f"maniac:{label}")["messages"][0]["content"] != "After.":
        assert time.monotonic() - changed < 10
        time.sleep(0.02)  # There is no event across processes to wait for.


def test_another_project_sees_nothing(gateway: Gateway, http: httpx.Client, label: str) -> None:
    """Containers are their project's own: elsewhere the same label is free and not found."""
    make(http, label)
    from cli import run_command

    made = run_command(
        gateway, "keys", "create", "--create-project", "--name", "x", "--project", "other"
    )
    key = next(word for word in made.split() if word.startswith("mk-"))
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}) as other:
        assert other.get(f"/v1/containers/{label}").status_code == 404
        assert make(other, label)["label"] == label


async def test_the_official_client_manages_containers(gateway: Gateway, label: str) -> None:
    """create, retrieve, list, update and delete, synchronously and asynchronously; models.add."""
    import maniac

    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        made = client.containers.create(label=label, initial_model="mock/m1")
        assert client.containers.retrieve(label)["id"] == made["id"]
        assert client.containers.list(limit=1)["data"][0]["id"] == made["id"]
        attached = client.models.add(container=label, model="mock/m2", slug="s")
        changed = client.containers.update(label, default_model="s")
        assert changed["best_model_id"] == attached["id"]
        with pytest.raises(maniac.APIError, match="already"):
            client.containers.create(label=label, initial_model="mock/m1")
    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        assert (await client.containers.delete(label))["deleted"] is True
        with pytest.raises(maniac.NotFoundError):
            await client.containers.retrieve(label)


def test_containers_over_grpc(gateway: Gateway, label: str) -> None:
    """An internal service makes, reads, lists and deletes containers of the project it names."""
    metadata = (("authorization", f"Bearer {INTERNAL_KEY}"), ("x-maniac-project", "default"))
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = containers_pb2_grpc.ContainerServiceStub(channel)
        wanted = containers_pb2.Container(label=label, initial_model="mock:m1")
        made = stub.CreateContainer(
            containers_pb2.CreateContainerRequest(container=wanted), metadata=metadata
        ).container
        found = stub.GetContainer(
            containers_pb2.GetContainerRequest(container=f"maniac:{label}"), metadata=metadata
        ).container
        listed = stub.ListContainers(
            containers_pb2.ListContainersRequest(page_size=1), metadata=metadata
        )
        deleted = stub.DeleteContainer(
            containers_pb2.DeleteContainerRequest(container=made.id), metadata=metadata
        ).container
        with pytest.raises(grpc.RpcError) as caught:
            stub.UpdateContainer(
                containers_pb2.UpdateContainerRequest(
                    container=label, update_mask=FieldMask(paths=["label"])
                ),
                metadata=metadata,
            )

    assert found == made
    assert made.initial_model == "mock/m1"
    assert listed.containers[0] == made
    assert listed.next_page_token == made.id
    assert deleted.HasField("delete_time")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.usefixtures("upstream")
def test_the_page_runs_as_printed(gateway: Gateway) -> None:
    """The example in docs/containers.md prints what it does."""
    printed = run_example(gateway, "containers.md")

    assert printed == "200 greeter\ngreeter True\n1\nTrue\n"
