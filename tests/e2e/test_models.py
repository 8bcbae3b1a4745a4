"""The catalogue of models over HTTP, gRPC and both clients."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import maniac
import openai
import pytest
from gateway import CONFIG, KEY, Gateway
from maniac_gateway.v1 import models_pb2, models_pb2_grpc
from pages import run_example
from upstream import Upstream

LISTED = {
    "id": "vendor/listed-1",
    "created": 1700000000,
    "name": "Listed One",
    "context_length": 4096,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {"prompt": "0.0000025", "completion": "0.00001", "input_cache_read": "0"},
    "top_provider": {"max_completion_tokens": 1024},
    "supported_parameters": ["temperature"],
}

# Lists that providers should not send.
ODD_LISTS = {
    "odd": b'{"data": [{"id": "odd-1", "architecture": "text", "pricing": [1], "created": {}}, 7, {"id": {}}]}',
    "none": b"[]",
    "nonsense": b"<html>",
}


@pytest.fixture(scope="module")
def catalogue(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a provider that lists a model, one that is limited to its own, and a known one with a key."""
    _upstream.models = [LISTED]
    _upstream.lists = {f"/{name}/v1/models": body for name, body in ODD_LISTS.items()}
    config = CONFIG.format(base_url=_upstream.base_url) + (
        f'[providers.closed]\nkind = "openai"\nbase_url = "{_upstream.base_url}"\n'
        'models = ["only:this", "shared"]\n'
    )
    for name in ODD_LISTS:
        url = f"http://127.0.0.1:{_upstream.port}/{name}/v1"
        config += f'[providers.{name}]\nkind = "openai"\nbase_url = "{url}"\n'
    gateway = Gateway(
        tmp_path_factory.mktemp("catalogue"), config, environ={"ANTHROPIC_API_KEY": "sk-x"}
    )
    gateway.start()
    with gateway.client() as client:
        deadline = time.monotonic() + 60
        # The provider is asked in the background.
        while client.get("/v1/models/mock/vendor/listed-1").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # There is no event across processes to wait for.
    yield gateway
    gateway.stop()
    _upstream.models = []
    _upstream.lists = {}


@pytest.fixture
def http(catalogue: Gateway) -> Iterator[httpx.Client]:
    with catalogue.client() as client:
        yield client


def test_the_whole_catalogue_has_both_shapes_in_each_item(http: httpx.Client) -> None:
    """Without a page all enabled models come: bundled, listed by the provider, configured."""
    answer = http.get("/v1/models").json()
    by_id = {item["id"]: item for item in answer["data"]}
    listed = by_id["mock/vendor/listed-1"]
    claude = next(item for id_, item in by_id.items() if id_.startswith("anthropic/claude"))

    assert answer["total"] == len(answer["data"]) == len(by_id)
    assert listed["slug"] == "vendor/listed-1"
    assert listed["created"] == 1700000000
    assert listed["owned_by"] == "vendor"
    assert listed["display_name"] == "Listed One"
    assert listed["context_window"] == 4096
    assert listed["max_output_tokens"] == 1024
    assert listed["input_modalities"] == ["text", "image"]
    assert listed["pricing"]["prompt"] == "0.0000025"
    assert listed["pricing"]["input"] == 0.0000025
    assert listed["pricing"]["cache_read"] == 0
    assert listed["pricing"]["cache_write"] is None
    assert listed["supported_apis"] == ["chat.completions"]
    assert float(claude["pricing"]["completion"]) > float(claude["pricing"]["prompt"]) > 0
    assert not any(id_.startswith(("openai/", "gemini/")) for id_ in by_id)


def test_an_odd_list_costs_nobody_else_a_model(catalogue: Gateway, http: httpx.Client) -> None:
    """What can be read of it is listed, the other providers' models are, and the log says what could not be read."""
    listed = {item["id"] for item in http.get("/v1/models").json()["data"]}

    assert {"mock/vendor/listed-1", "odd/odd-1"} <= listed
    output = catalogue.output()
    assert "provider odd lists models with entries or fields that make no sense" in output
    assert "architecture" in output
    assert (
        "provider nonsense lists no models: returned a model list that could not be parsed"
        in output
    )
    assert "Traceback" not in output


def test_pages_join_to_the_whole(http: httpx.Client) -> None:
    """`limit` and `offset` page through the same order; what is out of range is a 400 here."""
    whole = [item["id"] for item in http.get("/v1/models").json()["data"]]
    paged: list[str] = []
    while page := http.get("/v1/models", params={"limit": 7, "offset": len(paged)}).json()["data"]:
        paged += [item["id"] for item in page]
    refused = http.get("/v1/models?limit=0")

    assert paged == whole
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "limit"


@pytest.mark.parametrize(
    "name",
    ["closed/only:this", "closed:only/this", "closed%2Fonly%3Athis", "only:this", "only/this"],
)
def test_one_model_is_found_by_any_spelling(http: httpx.Client, name: str) -> None:
    """Slugs with either separator, escaped or not, and short names that fit one model."""
    assert http.get(f"/v1/models/{name}").json()["id"] == "closed/only:this"


def test_the_canonical_name_is_forwarded(http: httpx.Client, upstream: Upstream) -> None:
    """A slug in any spelling reaches the provider under the provider's own name; others are unknown there."""
    messages = [{"role": "user", "content": "Hi"}]
    answer = http.post(
        "/v1/chat/completions", json={"model": "closed:only/this", "messages": messages}
    ).json()
    unknown = http.post(
        "/v1/chat/completions", json={"model": "closed/other", "messages": messages}
    )

    assert upstream.last.json["model"] == "only:this"
    assert answer["model"] == "closed/only:this"
    assert unknown.json()["error"]["code"] == "model_not_found"


def test_a_provider_without_a_key_is_a_502_that_is_not_retried(http: httpx.Client) -> None:
    """Known, but not configured: the operator has to act, so clients are told not to try again."""
    body: dict[str, Any] = {
        "model": "openai/gpt-4o",
        "messages": [{"role": "user", "content": "x"}],
    }
    response = http.post("/v1/chat/completions", json=body)

    assert response.status_code == 502
    assert response.json()["error"]["code"] == "provider_key_missing"
    assert response.headers["x-should-retry"] == "false"


def test_a_containers_models_are_listed_by_container(http: httpx.Client) -> None:
    """The container's own models and the one it routes to; an unknown container has none."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    http.post("/v1/containers", json={"label": label, "initial_model": "closed/shared"})
    attached = http.post(
        "/v1/models", json={"container": label, "model": "closed/only:this", "slug": "sub"}
    ).json()
    of_container = http.get("/v1/models", params={"container": f"maniac:{label}"}).json()["data"]
    of_nobody = http.get("/v1/models?container=nobody").json()
    found = http.get(f"/v1/models/maniac:{label}:sub").json()

    assert {item["id"] for item in of_container} == {f"maniac:{label}:sub", "closed/shared"}
    assert of_nobody == {"object": "list", "data": [], "total": 0}
    assert attached["container"] == label
    assert found["provider"] == "maniac"


def test_both_clients_list_models(catalogue: Gateway) -> None:
    """The openai client iterates to the end and retrieves by slug; maniac lists a page."""
    with openai.OpenAI(base_url=catalogue.base_url, api_key=KEY) as client:
        ids = [model.id for model in client.models.list()]
        one = client.models.retrieve("mock/vendor/listed-1")
    with maniac.Maniac(api_key=KEY, base_url=catalogue.url) as other:
        page = other.models.list(limit=3)

    assert len(ids) == len(set(ids)) > 3
    assert one.created == 1700000000
    assert [item["id"] for item in page["data"]] == ids[:3]


def test_models_over_grpc(catalogue: Gateway) -> None:
    """Exact prices as integers, pages by token, and a reason for what is not there."""
    metadata = (("authorization", f"Bearer {KEY}"),)
    with grpc.insecure_channel(catalogue.grpc_target) as channel:
        stub = models_pb2_grpc.ModelServiceStub(channel)
        found = stub.GetModel(
            models_pb2.GetModelRequest(id="mock:vendor:listed-1"), metadata=metadata
        ).model
        first = stub.ListModels(models_pb2.ListModelsRequest(page_size=2), metadata=metadata)
        second = stub.ListModels(
            models_pb2.ListModelsRequest(page_size=2, page_token=first.next_page_token),
            metadata=metadata,
        )
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(models_pb2.GetModelRequest(id="nobody/nothing"), metadata=metadata)

    assert found.pricing.input_nano_usd_per_mtok == 2_500_000_000
    assert found.pricing.cache_read_nano_usd_per_mtok == 0
    assert not {m.id for m in first.models} & {m.id for m in second.models}
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_page_runs_as_printed(catalogue: Gateway) -> None:
    """The example in docs/models.md prints what it does."""
    assert run_example(catalogue, "models.md") == "True\nTrue ['cache_read', 'cache_write']\n"
