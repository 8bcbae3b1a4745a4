"""Evaluators over HTTP, gRPC and the official client."""

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
from google.protobuf.field_mask_pb2 import FieldMask
from maniac_gateway.v1 import evaluators_pb2, evaluators_pb2_grpc
from pages import run_example

# The official client's own models shadow an attribute of their base class.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

METADATA = (("authorization", f"Bearer {KEY}"),)
JUDGE = {"type": "judge", "model": "mock:m1", "prompt": "Is A at least as good as B?"}
SOURCE = 'def run_evaluation(item):\n    return {"score": 1}\n'
CODE = {"type": "code", "source": SOURCE}


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"evaluator-{uuid.uuid4().hex[:8]}"


def make(http: httpx.Client, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = http.post("/v1/evaluators", json={**body, **more})
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def make_container(http: httpx.Client) -> dict[str, Any]:
    body = {"label": f"box-{uuid.uuid4().hex[:8]}", "initial_model": "mock/m1"}
    made: dict[str, Any] = http.post("/v1/containers", json=body).raise_for_status().json()
    return made


def test_a_judge_is_made_read_changed_and_deleted(http: httpx.Client, name: str) -> None:
    """The life of a judge, by id and by name; afterwards its name is free again."""
    container = make_container(http)
    made = make(
        http,
        JUDGE,
        name=name,
        container=f"maniac:{container['label']}",
        pass_threshold=1,
        mode="pairwise",
        metadata={"big": 12345678901234567890123},
        inference_parameters={"temperature": 0, "top_k": 3},
        api="chat.completions",
        description="",
    )
    by_id = http.get(f"/v1/evaluators/{made['id']}").json()
    by_name = http.get(f"/api/v1/evaluators/{name}").json()
    changed = http.patch(
        f"/v1/evaluators/{name}",
        json={"container": None, "pass_threshold": None, "prompt": "Else?", "metadata": None},
    ).json()
    same = http.patch(f"/v1/evaluators/{name}", json={}).json()
    deleted = http.delete(
        f"/v1/evaluators/{made['id']}", headers={"content-type": "application/json"}
    ).json()
    gone = http.get(f"/v1/evaluators/{name}")
    again = make(http, JUDGE, name=name)

    assert made == by_id == by_name
    assert made["object"] == "evaluator.judge"
    assert made["model"] == "mock/m1"
    assert (made["container"], made["container_id"]) == (container["label"], container["id"])
    assert made["metadata"] == {"big": 12345678901234567890123}
    assert made["inference_parameters"] == {"temperature": 0, "top_k": 3}
    assert made["description"] == ""
    assert "source" not in made
    assert same == changed
    cleared = {"container": None, "container_id": None, "pass_threshold": None, "metadata": None}
    assert changed == {**made, **cleared, "prompt": "Else?"}
    assert deleted == {"object": "evaluator", "id": made["id"], "deleted": True}
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "evaluator_not_found"
    assert again["id"] != made["id"]


def test_code_is_stored_and_not_run(http: httpx.Client, name: str, tmp_path: Any) -> None:
    """The source comes back as it was sent, and what it would do on import does not happen."""
    trap = tmp_path / "ran"
    source = f"open({str(trap)!r}, 'w')\n{SOURCE}"
    made = make(http, CODE, source=source, name=name, requirements=["numpy>=2"])
    changed = http.patch(f"/v1/evaluators/{name}", json={"requirements": None}).json()

    assert made["object"] == "evaluator.code"
    assert (made["source"], made["requirements"]) == (source, ["numpy>=2"])
    assert made["mode"] == "pointwise"
    assert changed["requirements"] == []
    assert not trap.exists()


@pytest.mark.parametrize(
    "source",
    [
        "async_ = 1\ndef run_evaluation(item, *, strict=False): return {'score': 1}",
        "run_evaluation = lambda item: {'score': 1}",
        'def evaluate(item):\n    return {"score": float(item["sample"] == item["ground_truth"])}\n',
        "def evaluate(): ...\ndef run_evaluation(item): return {'score': 1}",
        "from mine import scorer as run_evaluation",
        "import re\nclass X: ...\ndef run_evaluation(*items): return re.compile('\\d')",
    ],
)
def test_sources_that_define_the_function_are_taken(http: httpx.Client, source: str) -> None:
    """By `def`, by assignment and by import, with optional arguments beside the item."""
    assert make(http, CODE, source=source)["source"] == source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "required"),
        ("def run_evaluation(item:\n", "line 1"),
        ("x = 1", "run_evaluation"),
        ("class A:\n    def run_evaluation(self, item): ...", "run_evaluation"),
        ("async def run_evaluation(item): ...", "run_evaluation"),
        ("def run_evaluation(): ...", "one argument"),
        ("def evaluate(a, b): ...", "evaluate with one argument"),
        ("def run_evaluation(a, b): ...", "one argument"),
        ("def run_evaluation(item, *, b): ...", "one argument"),
        ("a\0b", "not valid Python"),
        ("x = " + "-" * 60_000 + "1", "not valid Python"),
        ("x = a" + ".a" * 30_000, "not valid Python"),
        ("#" * 65_537, "65536"),
    ],
)
def test_sources_that_do_not_are_refused(http: httpx.Client, source: str, message: str) -> None:
    """The mistake is named, on create and on change."""
    made = make(http, CODE)
    created = http.post("/v1/evaluators", json={**CODE, "source": source})
    changed = http.patch(f"/v1/evaluators/{made['id']}", json={"source": source})

    for response in (created, changed):
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body", "source"]
        assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 422, "validation_error", "type"),
        ({"type": "human"}, 422, "validation_error", "type"),
        ({"type": "judge", "prompt": "?"}, 422, "validation_error", "model"),
        ({"type": "judge", "model": "mock/m1"}, 422, "validation_error", "prompt"),
        ({"type": "code"}, 422, "validation_error", "source"),
        ({**CODE, "model": "mock/m1"}, 422, "validation_error", "model"),
        ({**CODE, "inference_parameters": {}}, 422, "validation_error", "inference_parameters"),
        ({**JUDGE, "source": SOURCE}, 422, "validation_error", "source"),
        ({**JUDGE, "mode": "x"}, 422, "validation_error", "mode"),
        ({**JUDGE, "api": "x"}, 422, "validation_error", "api"),
        ({**JUDGE, "name": " x"}, 422, "validation_error", "name"),
        ({**JUDGE, "name": "x" * 129}, 422, "validation_error", "name"),
        ({**JUDGE, "metadata": []}, 422, "validation_error", "metadata"),
        ({**JUDGE, "pass_threshold": "1"}, 422, "validation_error", "pass_threshold"),
        (
            {**JUDGE, "inference_parameters": {"temperature": "hot"}},
            422,
            "validation_error",
            "inference_parameters.temperature",
        ),
        ({**CODE, "requirements": ["a", ""]}, 422, "validation_error", "requirements"),
        ({**JUDGE, "model": "no/model"}, 404, "model_not_found", "model"),
        ({**JUDGE, "model": "maniac:no-such"}, 404, "container_not_found", "model"),
        ({**JUDGE, "container": "no-such"}, 404, "container_not_found", "container"),
    ],
)
def test_bad_evaluators_are_refused(
    http: httpx.Client, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    """Each mistake has its status, code and field; on 422 also `detail`."""
    response = http.post("/v1/evaluators", json=body)
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert ("detail" in response.json()) == (status == 422)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"source": SOURCE}, "source"),
        ({"requirements": []}, "requirements"),
        ({"model": None}, "model"),
        ({"prompt": ""}, "prompt"),
        ({"name": None}, "name"),
    ],
)
def test_bad_changes_are_refused(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    """A judge stays one, and what its kind requires cannot be cleared; nothing is changed."""
    made = make(http, JUDGE)
    response = http.patch(f"/v1/evaluators/{made['id']}", json={**change, "description": "new"})

    assert response.status_code == 422
    assert response.json()["error"]["param"] == param
    assert http.get(f"/v1/evaluators/{made['id']}").json() == made


def test_names_are_unique_in_a_project(gateway: Gateway, http: httpx.Client, name: str) -> None:
    """A second one of a name is a conflict that clients do not retry; elsewhere the name is free and not found."""
    make(http, JUDGE, name=name)
    other = make(http, CODE)
    twice = http.post("/v1/evaluators", json={**CODE, "name": name})
    renamed = http.patch(f"/v1/evaluators/{other['id']}", json={"name": name})
    output = run_command(
        gateway, "keys", "create", "--create-project", "--name", "x", "--project", "other"
    )
    key = next(word for word in output.split() if word.startswith("mk-"))

    for response in (twice, renamed):
        assert response.status_code == 409
        assert response.headers["x-should-retry"] == "false"
        assert response.json()["error"]["code"] == "evaluator_exists"
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {key}"}) as stranger:
        assert stranger.get(f"/v1/evaluators/{name}").status_code == 404
        assert stranger.delete(f"/v1/evaluators/{other['id']}").status_code == 404
        assert make(stranger, {**CODE, "name": name})["name"] == name


@pytest.mark.parametrize("part", ["a/b", "what?", "50%", "%41", "#1", "ü é"])
def test_names_have_any_characters(http: httpx.Client, name: str, part: str) -> None:
    """An escaped name is found, changed and deleted as it was given."""
    given = f"{part}{name}{part}"
    path = f"/v1/evaluators/{quote(given, safe='')}"
    made = make(http, JUDGE, name=given)

    assert http.get(path).json() == made
    assert http.patch(path, json={"description": "d"}).json()["description"] == "d"
    assert http.delete(path).json()["id"] == made["id"]


def test_a_container_route_may_judge(http: httpx.Client) -> None:
    """The route is kept, since what serves it may change."""
    label = make_container(http)["label"]

    assert make(http, JUDGE, model=f"maniac:{label}")["model"] == f"maniac:{label}"


def test_lists_are_paged_and_filtered(http: httpx.Client) -> None:
    """Newest first, by container as well; an unknown container has none; bad pages are 422."""
    container = make_container(http)
    ids = [make(http, JUDGE, container=container["label"])["id"] for _ in range(3)]
    elsewhere = make(http, CODE)["id"]
    whole = http.get("/v1/evaluators?limit=2").json()
    second = http.get("/v1/evaluators?limit=1&offset=1").json()["data"][0]
    of_container = http.get("/v1/evaluators", params={"container": container["id"]}).json()

    assert whole.keys() == {"object", "data", "total"}
    assert [item["id"] for item in whole["data"]] == [elsewhere, ids[2]]
    assert whole["total"] >= 4
    assert second["id"] == ids[2]
    assert [item["id"] for item in of_container["data"]] == ids[::-1]
    assert of_container["total"] == 3
    assert http.get("/v1/evaluators?container=no-such").json()["data"] == []
    assert http.get("/v1/evaluators?limit=0").json()["detail"][0]["loc"] == ["query", "limit"]


async def test_the_official_client_manages_evaluators(gateway: Gateway, name: str) -> None:
    """create, retrieve, list, update and delete, synchronously and asynchronously; its models accept the answers."""
    import maniac
    from maniac import types

    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        judge = client.evaluators.create(
            type="judge", name=name, model="mock/m1", prompt="?", pass_threshold=0.5
        )
        code = client.evaluators.create(type="code", source=SOURCE)
        assert types.JudgeEvaluator.model_validate(judge).pass_threshold == 0.5
        assert types.CodeEvaluator.model_validate(code).source == SOURCE
        assert client.evaluators.retrieve(name) == judge
        listed = types.EvaluatorList.model_validate(client.evaluators.list(limit=2))
        assert [item.id for item in listed.data] == [code["id"], judge["id"]]
        assert client.evaluators.update(name, mode="reference")["mode"] == "reference"
        with pytest.raises(maniac.APIError, match="already"):
            client.evaluators.create(type="code", source=SOURCE, name=name)
        with pytest.raises(maniac.BadRequestError, match="line 1"):
            client.evaluators.create(type="code", source="def")
    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        assert (await client.evaluators.update(name, prompt="Else?"))["prompt"] == "Else?"
        assert (await client.evaluators.delete(name))["deleted"] is True
        with pytest.raises(maniac.NotFoundError):
            await client.evaluators.retrieve(name)


def test_evaluators_over_grpc(gateway: Gateway, name: str) -> None:
    """Each RPC, and the refusals of what cannot come over HTTP."""
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = evaluators_pb2_grpc.EvaluatorServiceStub(channel)

        def refused(call: Any, request: Any) -> str:
            with pytest.raises(grpc.RpcError) as caught:
                call(request, metadata=METADATA)
            return str(caught.value.code().name)

        wanted = evaluators_pb2.Evaluator(
            name=name, code=evaluators_pb2.CodeEvaluator(source=SOURCE), metadata_json=b'{"a":1}'
        )
        made = stub.CreateEvaluator(
            evaluators_pb2.CreateEvaluatorRequest(evaluator=wanted), metadata=METADATA
        ).evaluator
        found = stub.GetEvaluator(
            evaluators_pb2.GetEvaluatorRequest(evaluator=name), metadata=METADATA
        ).evaluator
        page = stub.ListEvaluators(
            evaluators_pb2.ListEvaluatorsRequest(page_size=1), metadata=METADATA
        )
        after = stub.ListEvaluators(
            evaluators_pb2.ListEvaluatorsRequest(page_token=page.next_page_token), metadata=METADATA
        )
        changed = stub.UpdateEvaluator(
            evaluators_pb2.UpdateEvaluatorRequest(
                evaluator=name,
                values=evaluators_pb2.Evaluator(mode=evaluators_pb2.EVALUATOR_MODE_PAIRWISE),
                update_mask=FieldMask(paths=["mode", "metadata_json"]),
            ),
            metadata=METADATA,
        ).evaluator
        kindless = evaluators_pb2.CreateEvaluatorRequest(evaluator=evaluators_pb2.Evaluator())
        not_json = evaluators_pb2.Evaluator(judge={"model": "mock/m1"}, metadata_json=b"[]")
        id_path = evaluators_pb2.UpdateEvaluatorRequest(
            evaluator=name, update_mask=FieldMask(paths=["id"])
        )
        refusals = [
            refused(stub.CreateEvaluator, kindless),
            refused(
                stub.CreateEvaluator, evaluators_pb2.CreateEvaluatorRequest(evaluator=not_json)
            ),
            refused(stub.UpdateEvaluator, id_path),
        ]
        deleted = stub.DeleteEvaluator(
            evaluators_pb2.DeleteEvaluatorRequest(evaluator=name), metadata=METADATA
        )
        missing = refused(stub.GetEvaluator, evaluators_pb2.GetEvaluatorRequest(evaluator=made.id))

    assert found == made == page.evaluators[0]
    assert made.mode == evaluators_pb2.EVALUATOR_MODE_POINTWISE
    assert made.id not in {evaluator.id for evaluator in after.evaluators}
    assert changed.mode == evaluators_pb2.EVALUATOR_MODE_PAIRWISE
    assert changed.metadata_json == b""
    assert changed.code.source == SOURCE
    assert refusals == ["INVALID_ARGUMENT"] * 3
    assert deleted.id == made.id
    assert missing == "NOT_FOUND"


def test_the_example_of_the_page_runs(gateway: Gateway) -> None:
    """docs/evaluators.md prints what it says."""
    assert run_example(gateway, "evaluators.md") == (
        "evaluator.code pointwise\nreference 0.5\nTrue\n"
    )
