"""What was captured is read back, whatever lies in its rows, and can be deleted."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from cli import run_command
from gateway import KEY, Gateway
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc
from openai import NotFoundError, OpenAI
from upstream import Exchange, Upstream

METADATA = (("authorization", f"Bearer {KEY}"),)
BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}
_HUGE = (1 << 63) - 1
_PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def http(gateway: Gateway, upstream: Upstream) -> Iterator[httpx.Client]:
    """A client with a project of its own, and a container `box` in it."""
    del upstream
    secret = run_command(
        gateway, "keys", "create", "--create-project", "--project", f"p-{uuid.uuid4().hex}"
    ).strip()
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as client:
        box = {"label": "box", "initial_model": "mock/m1", "default_system_prompt": "Be brief."}
        assert client.post("/v1/containers", json=box).status_code == 200
        yield client


def ask(http: httpx.Client, **changes: Any) -> str:
    """Return the id of a completion."""
    response = http.post("/v1/chat/completions", json={**BODY, **changes})
    assert response.status_code == 200, response.text
    found: str = response.json()["id"]
    return found


def _execute(gateway: Gateway, sql: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        database.execute(sql, values)
        database.commit()


def _spoil(gateway: Gateway, completion_id: str, column: str, value: Any) -> None:
    if column in ("input", "output", "route"):
        where = "seq = (SELECT seq FROM completions WHERE id = ?)"
        _execute(
            gateway,
            f"UPDATE completion_bodies SET {column} = ? WHERE {where}",
            value,
            completion_id,
        )
    else:
        _execute(gateway, f"UPDATE completions SET {column} = ? WHERE id = ?", value, completion_id)


def test_no_row_hides_the_others(gateway: Gateway, http: httpx.Client) -> None:
    """List, get, explain, export, usage, traces and datasets answer with rows in them that cannot be shown."""
    spoilt = {
        ("output", b"{"): "choices",
        ("output", b'[{"index":0,"message":{"role":"assistant","refusal":{}}}]'): "choices",
        ("output", b'[{"index":5000000000,"message":{"role":"assistant"}}]'): "choices",
        ("output", b"[" * 10_000): "choices",
        ("metadata", "{"): "metadata",
        ("tags", '{"a":1}'): "tags",
        ("trace_metadata", "["): "trace",
        ("input_tokens", _HUGE): "usage",
        ("input", b"["): "input",
        ("route", b"["): None,
        ("status", "parked"): None,
    }
    more = {"model": "maniac:box", "trace": {"id": "t", "metadata": {"a": 1}}, "metadata": {"k": 1}}
    ids = {ask(http, tags=["x"], **more): spoil for spoil in spoilt}
    good = ask(http, tags=["x"], **more)
    for completion_id, (column, value) in ids.items():
        _spoil(gateway, completion_id, column, value)
    _execute(gateway, "UPDATE traces SET last_seen = ?, requests = ? WHERE id = 't'", _HUGE, _HUGE)
    attempts = "UPDATE attempts SET http_status = ?, started_us = ?, input_tokens = ?"
    of_good = "WHERE seq = (SELECT seq FROM completions WHERE id = ?)"
    _execute(gateway, f"{attempts} {of_good}", _HUGE, _HUGE, _HUGE, good)
    own = "WHERE project = (SELECT project FROM completions WHERE id = ?)"
    _execute(gateway, f"UPDATE usage_daily SET input_tokens = ? {own}", _HUGE, good)
    _execute(gateway, f"UPDATE usage_tags_daily SET output_tokens = ? {own}", _HUGE, good)

    listed = http.get("/v1/chat/completions").json()

    assert listed["total"] == len(listed["data"]) == len(ids) + 1
    for item in listed["data"]:
        spoil = ids.get(item["id"])
        name = None if spoil is None else spoilt[spoil]
        assert item["unreadable"] == ([] if name in (None, "input") else [name])
        assert item["choices"] == [] if name == "choices" else item["choices"]
        got = http.get(f"/v1/chat/completions/{item['id']}")
        assert (got.status_code, got.json()) == (200, item)
        explained = http.get(f"/v1/chat/completions/{item['id']}/explain")
        assert explained.status_code == 200
        messages = http.get(f"/v1/chat/completions/{item['id']}/messages")
        assert len(messages.json()["data"]) == (0 if name == "input" else 2)
        if spoil == ("route", b"["):
            assert explained.json()["unreadable"] == ["route"]
    for query in ("group_by=model", "group_by=tag", "tag=x", "group_by=day,key"):
        usage = http.get(f"/v1/usage?{query}")
        assert usage.status_code == 200, usage.text
        assert usage.json()["totals"]["request_count"] == len(ids) + 1
    for form in ("full", "fine_tuning"):
        lines = _export(gateway, http, form)
        assert len(lines) == len(ids) + 1 if form == "full" else lines
        for line in lines if form == "full" else ():
            name = spoilt.get(ids.get(line["output"]["id"], ("", "")))
            assert line["output"].get("unreadable") == (None if name is None else [name])
    assert http.get("/v1/traces").status_code == http.get("/v1/traces/t").status_code == 200
    text = {"key": "output.text", "operator": "not_contains", "value": "nowhere"}
    tokens = {"key": "usage.total_tokens", "operator": "greater_than", "value": 0}
    for filters in ([], [text], [tokens], [{**text, "key": "input.text"}]):
        wanted = {"name": "d", "container": "box", "size": 100, "filters": filters}
        made = http.post("/v1/datasets", json=wanted)
        assert made.status_code == 200, made.text
        content = http.get(f"/v1/datasets/{made.json()['id']}/content")
        assert content.status_code == 200
        assert good in content.text


def _export(gateway: Gateway, http: httpx.Client, form: str) -> list[Any]:
    metadata = (("authorization", http.headers["authorization"]),)
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.ExportChatCompletionsRequest(
            format=chat_pb2.ExportFormat.Value(f"EXPORT_FORMAT_{form.upper()}")
        )
        pieces = stub.ExportChatCompletions(request, metadata=metadata, timeout=60)
        file = b"".join(piece.chunk for piece in pieces)
    return [json.loads(line) for line in file.splitlines()]


def test_a_completion_is_deleted_by_an_openai_client(gateway: Gateway, http: httpx.Client) -> None:
    """The client's own call deletes it: it is found no more, and what it cost stays counted."""
    gone, kept = ask(http, tags=["x"], metadata={"k": 1}), ask(http)
    before = http.get("/v1/usage").json()["totals"]
    key = http.headers["authorization"].removeprefix("Bearer ")
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        deleted = client.chat.completions.delete(gone)
        assert deleted.to_dict() == {
            "object": "chat.completion.deleted",
            "id": gone,
            "deleted": True,
        }
        for again in (gone, "chatcmpl-never"):
            with pytest.raises(NotFoundError):
                client.chat.completions.delete(again)

    assert http.get(f"/v1/chat/completions/{gone}").status_code == 404
    assert [item["id"] for item in http.get("/v1/chat/completions").json()["data"]] == [kept]
    assert http.get("/v1/usage").json()["totals"] == before
    assert [line["output"]["id"] for line in _export(gateway, http, "full")] == [kept]


def test_only_the_own_project_deletes(gateway: Gateway, http: httpx.Client) -> None:
    """Another project's key gets a 404, over HTTP and gRPC, and changes nothing."""
    own = ask(http)
    with gateway.client() as other:
        assert other.delete(f"/v1/chat/completions/{own}").status_code == 404
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.DeleteChatCompletionRequest(id=own)
        with pytest.raises(grpc.RpcError) as raised:
            stub.DeleteChatCompletion(request, metadata=METADATA, timeout=60)
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        metadata = (("authorization", http.headers["authorization"]),)
        stub.DeleteChatCompletion(request, metadata=metadata, timeout=60)
    assert http.get(f"/v1/chat/completions/{own}").status_code == 404


def test_what_a_dataset_holds_is_not_deleted(http: httpx.Client) -> None:
    """A dataset does not change under its readers: 409 names it, and once it is gone the completion goes too."""
    own = ask(http, model="maniac:box")
    wanted = {"name": "gold", "container": "box", "size": 5}
    dataset = http.post("/v1/datasets", json=wanted).json()["id"]

    refused = http.delete(f"/v1/chat/completions/{own}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "gold" in refused.json()["error"]["message"]

    assert http.delete(f"/v1/datasets/{dataset}").status_code == 200
    assert http.delete(f"/v1/chat/completions/{own}").json()["deleted"] is True


def test_the_error_of_a_failed_completion_is_read_back(
    gateway: Gateway, http: httpx.Client, upstream: Upstream
) -> None:
    """Code and message as the caller was told them, in get, list and export; null where nothing failed."""
    fine = ask(http)

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(400, b'{"error":{"message":"no such colour"}}')

    upstream.handler = refuse
    told = http.post("/v1/chat/completions", json=BODY).json()["error"]

    failed, completed = http.get("/v1/chat/completions").json()["data"]
    assert failed["error"] == {"code": told["code"], "message": told["message"]}
    assert "no such colour" in failed["error"]["message"]
    assert (completed["id"], completed["error"]) == (fine, None)
    assert http.get(f"/v1/chat/completions/{failed['id']}").json()["error"] == failed["error"]
    lines = {line["output"]["id"]: line["output"] for line in _export(gateway, http, "full")}
    assert lines[failed["id"]]["error"] == failed["error"]
    assert "error" not in lines[fine]


def test_all_that_was_sent_is_kept_with_the_record(http: httpx.Client, upstream: Upstream) -> None:
    """Stream, all of stream_options, forwarded headers, and what the container added, are in the explanation."""

    async def answer(exchange: Exchange) -> None:
        if exchange.json.get("stream"):
            await exchange.stream(["Hello"])
        else:
            await exchange.answer()

    upstream.handler = answer
    options = {"include_usage": True, "include_obfuscation": False, "later": [1]}
    body = {**BODY, "model": "maniac:box", "stream": True, "stream_options": options}
    beta = {"anthropic-beta": "some-beta-2026"}
    assert http.post("/v1/chat/completions", json=body, headers=beta).status_code == 200
    with_defaults = {"default_parameters": {"temperature": 0.5, "top_p": 0.9}}
    assert http.patch("/v1/containers/box", json=with_defaults).status_code == 200
    plain = ask(http, model="maniac:box", temperature=1)
    unstored = ask(http, model="maniac:box", store=False)

    streamed = http.get("/v1/chat/completions").json()["data"][1]["id"]
    found = http.get(f"/v1/chat/completions/{streamed}/explain").json()
    assert (found["stream"], found["stream_options"]) == (True, options)
    assert found["headers"] == beta
    assert found["container_added"] == {"messages": [0], "parameters": []}
    found = http.get(f"/v1/chat/completions/{plain}/explain").json()
    assert (found["stream"], found["stream_options"], found["headers"]) == (False, None, {})
    assert found["container_added"] == {"messages": [0], "parameters": ["top_p"]}
    found = http.get(f"/v1/chat/completions/{unstored}/explain").json()
    assert (found["container_added"], found["replay_of"]) == (None, None)


def test_what_was_asked_is_listed_as_openai_lists_it(
    gateway: Gateway, http: httpx.Client, upstream: Upstream
) -> None:
    """The client's own iterator walks the messages, with what the container added, in both orders."""
    del upstream
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": _PIXEL}}]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked: list[dict[str, Any]] = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "7"},
        {"role": "user", "content": "And now?", "name": "ann"},
    ]
    own = ask(http, model="maniac:box", messages=asked)
    everything = [{"role": "system", "content": "Be brief."}, *asked]
    key = http.headers["authorization"].removeprefix("Bearer ")
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
        pages = client.chat.completions.messages.list(own, limit=2)
        listed = [message.to_dict(warnings=False) for message in pages]
        backwards = client.chat.completions.messages.list(own, order="desc").data
    assert [message.pop("id") for message in listed] == [f"{own}-{n}" for n in range(5)]
    assert listed == everything
    assert [message.id for message in backwards] == [f"{own}-{n}" for n in reversed(range(5))]

    page = http.get(f"/v1/chat/completions/{own}/messages?limit=2&after={own}-1").json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (f"{own}-2", f"{own}-3")
    last = http.get(f"/v1/chat/completions/{own}/messages?after={own}-4").json()
    assert last == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    assert http.get("/v1/chat/completions/never/messages").status_code == 404
    assert http.get(f"/v1/chat/completions/{own}/messages?limit=0").status_code == 422
    [line] = _export(gateway, http, "full")
    assert line["input"]["messages"] == everything
    assert line["output"]["container_added"] == {"messages": [0], "parameters": []}
    with gateway.client() as other:
        assert other.get(f"/v1/chat/completions/{own}/messages").status_code == 404


def test_a_filter_takes_a_bounded_list(gateway: Gateway, http: httpx.Client) -> None:
    """32 keys of metadata are looked up together; 33, or hundreds of thousands, are refused with what to do."""
    metadata = {f"k{n}": n for n in range(40)}
    own = ask(http, model="maniac:box", metadata=metadata)

    def listed(count: int) -> httpx.Response:
        wanted = {f"k{n}": n for n in range(count)}
        return http.request("GET", "/v1/chat/completions", json=wanted)

    assert [item["id"] for item in listed(32).json()["data"]] == [own]
    for count in (33, 20_000):
        refused = listed(count)
        assert refused.status_code == 422
        assert f"has {count} keys; use at most 32" in refused.json()["error"]["message"]
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        request = chat_pb2.ExportChatCompletionsRequest(
            filter=chat_pb2.CompletionFilter(metadata_json=json.dumps(metadata).encode())
        )
        key = (("authorization", http.headers["authorization"]),)
        with pytest.raises(grpc.RpcError) as raised:
            list(
                chat_pb2_grpc.ChatServiceStub(channel).ExportChatCompletions(request, metadata=key)
            )
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    one = {"key": "model", "operator": "exists"}
    for filters in (
        [one] * 33,
        [{"key": "id", "operator": "in", "value": [str(n) for n in range(1001)]}],
        [{"key": "tags", "operator": "not_in", "value": [str(n) for n in range(501)]}] * 2,
    ):
        wanted = {"name": "d", "container": "box", "size": 5, "filters": filters}
        refused = http.post("/v1/datasets", json=wanted)
        assert refused.status_code == 422
        assert "must" in refused.json()["error"]["message"]


def _replayed(http: httpx.Client, completion_id: str, **body: Any) -> dict[str, Any]:
    response = http.post(f"/v1/chat/completions/{completion_id}/replay", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = http.get(f"/v1/chat/completions/{response.json()['id']}").json()
    return found


def test_a_captured_request_is_sent_once_more(http: httpx.Client, upstream: Upstream) -> None:
    """The provider gets the very same again, though the container has changed; the new record points to the first."""
    sent: list[tuple[Any, dict[str, str]]] = []

    async def answer(exchange: Exchange) -> None:
        sent.append((exchange.json, exchange.headers))
        await exchange.answer(f"Answer {len(sent)}")

    upstream.handler = answer
    first = ask(
        http,
        model="maniac:box",
        temperature=0.25,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        seed=12345678901234567,
        top_k=3,
        tags=["x"],
        metadata={"k": 1},
        trace={"id": "replayed"},
    )
    changed = {"default_system_prompt": "Be long.", "default_model": "mock/m2"}
    assert http.patch("/v1/containers/box", json=changed).status_code == 200

    again = _replayed(http, first)
    other = _replayed(http, first, model="mock/other")

    (one, _), (two, _), (three, _) = sent
    assert two == one
    assert three == {**one, "model": "other"}
    assert again["choices"][0]["message"]["content"] == "Answer 2"
    assert (again["replay_of"], again["status"], again["model"]) == (first, "completed", "mock/m1")
    assert (again["container"], again["tags"], again["metadata"]) == ("box", ["x"], {"k": 1})
    assert (other["replay_of"], other["model"], other["trace"]) == (first, "mock/other", None)
    assert http.get(f"/v1/chat/completions/{first}").json()["replay_of"] is None
    assert http.get("/v1/usage").json()["totals"]["request_count"] == 3


def test_a_replay_streams_as_its_first_did(http: httpx.Client, upstream: Upstream) -> None:
    """With `stream`, chunks come, and usage where the first request asked for it."""

    async def answer(exchange: Exchange) -> None:
        await exchange.stream(["Hel", "lo"])

    upstream.handler = answer
    for options, has_usage in ((None, False), ({"include_usage": True}, True)):
        body = {**BODY, "stream": True, "stream_options": options}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        first = http.get("/v1/chat/completions?limit=1").json()["data"][0]["id"]
        response = http.post(f"/v1/chat/completions/{first}/replay", json={"stream": True})
        assert response.headers["content-type"].startswith("text/event-stream")
        *events, done = [
            line[6:] for line in response.text.splitlines() if line.startswith("data: ")
        ]
        chunks = [json.loads(event) for event in events]
        assert done == "[DONE]"
        text = "".join(
            choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
        )
        assert text == "Hello"
        assert bool(chunks[-1].get("usage")) is has_usage
        newest = http.get("/v1/chat/completions?limit=1").json()["data"][0]
        assert (newest["id"], newest["replay_of"]) == (chunks[0]["id"], first)


def test_what_cannot_be_sent_again_says_why(
    gateway: Gateway, http: httpx.Client, upstream: Upstream
) -> None:
    """404 for what is not the project's, 409 for what is not stored any more, 4xx for a bad body; nothing is sent."""
    own = ask(http)
    spoilt = ask(http)
    _spoil(gateway, spoilt, "input", b"[")
    expired = ask(http)
    _spoil(gateway, expired, "input", None)
    unstored = ask(http, store=False)

    async def refuse(exchange: Exchange) -> None:
        raise AssertionError(exchange.json)

    upstream.handler = refuse

    def status(completion_id: str, **body: Any) -> tuple[int, str]:
        response = http.post(f"/v1/chat/completions/{completion_id}/replay", json=body)
        return response.status_code, response.json()["error"]["code"]

    assert status("never") == status(unstored) == (404, "completion_not_found")
    assert status(spoilt) == status(expired) == (409, "conflict")
    assert status(own, model="mock2/none") == (404, "model_not_found")
    assert status(own, stream="yes")[0] == 422
    assert status(own, temperature=1)[0] == 422
    with gateway.client() as other:
        assert other.post(f"/v1/chat/completions/{own}/replay").status_code == 404
    assert http.get(f"/v1/chat/completions/{own}/replay").status_code == 405


def test_headers_are_forwarded_again_over_grpc(
    gateway: Gateway, http: httpx.Client, upstream: Upstream
) -> None:
    """A replay by an internal service carries the first request's headers, whole and in deltas."""
    del upstream
    body = {**BODY, "stream": False}
    beta = {"anthropic-beta": "some-beta-2026"}
    first = http.post("/v1/chat/completions", json=body, headers=beta).json()["id"]
    metadata = (("authorization", http.headers["authorization"]),)
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        request = chat_pb2.ReplayChatCompletionRequest(id=first)
        again = stub.ReplayChatCompletion(request, metadata=metadata, timeout=60).completion
        assert again.choices[0].message.text == "Hello!"
    found = http.get(f"/v1/chat/completions/{again.id}/explain").json()
    assert (found["headers"], found["replay_of"]) == (beta, first)
