"""Captured completions: the list, its filters, and one by id."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

URL = "/v1/chat/completions"
RECORD = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_800_000_000,
    "model": "openai/gpt-4o",
    "provider": "openai",
    "container": None,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello."},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
    "model_id": "0b0e8b1e-0000-4000-8000-000000000000",
    "spend": 0.0015,
    "tags": ["a"],
    "metadata": {"big": 12345678901234567},
    "trace": {
        "id": "t",
        "span_id": "s",
        "parent_span_id": None,
        "name": None,
        "source": None,
        "metadata": None,
    },
    "status": "completed",
    "usage_source": "provider",
    "time_to_first_token_ms": 250.0,
    "latency_ms": 1000.5,
    "error": None,
    "replay_of": None,
    "unreadable": [],
    "wire": "chat",
}


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
async def test_the_list_is_a_closed_page(client: httpx.AsyncClient, base: str) -> None:
    """A page has its records, the count of all matches, and no other key."""
    answer = await client.get(f"{base}/chat/completions")

    assert answer.status_code == 200
    assert answer.json() == {"object": "list", "data": [RECORD], "total": 7}
    assert answer.headers["x-ratelimit-remaining"] == "599"


async def test_a_record_without_facts_has_nulls(client: httpx.AsyncClient, core: Any) -> None:
    """What is not known of a record is null, an unknown price among it, and never 0."""
    from maniac_gateway.v1 import chat_pb2

    async def bare(_: Any, __: Any) -> Any:
        completion = chat_pb2.ChatCompletion(id="chatcmpl-2")
        record = chat_pb2.StoredChatCompletion(completion=completion)
        return chat_pb2.GetChatCompletionResponse(completion=record)

    core.on_get = bare
    answer = (await client.get(f"{URL}/chatcmpl-2")).json()

    assert answer["choices"] == answer["tags"] == []
    assert {key for key, value in answer.items() if value is None} == {
        "model", "provider", "container", "usage", "model_id", "spend", "metadata", "trace", "status",
        "usage_source", "time_to_first_token_ms", "error", "replay_of",
    }  # fmt: skip


QUERIES: list[tuple[str, str]] = [
    ("", "page_size: 20"),
    ("limit=100&offset=5", "page_size: 100 skip: 5"),
    ("limit=1&limit=2", "page_size: 2"),
    ("limit=10.0", "page_size: 10"),
    ("order=asc", "page_size: 20 ascending: true"),
    ("order=desc&other=1", "page_size: 20"),
    ("after=chatcmpl-9", 'page_size: 20 page_token: "chatcmpl-9"'),
    ("model=openai%2Fgpt-4o", 'page_size: 20 filter { model: "openai/gpt-4o" }'),
    ("container=maniac:a%20b", 'page_size: 20 filter { container: "maniac:a b" }'),
    ("metadata[k]=v", 'page_size: 20 filter { metadata_json: "{\\"k\\":\\"v\\"}" }'),
    ("metadata%5Bk%5D=", 'page_size: 20 filter { metadata_json: "{\\"k\\":\\"\\"}" }'),
    ("metadata=x&metadata[=y", "page_size: 20"),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
async def test_the_query_reaches_the_core(
    client: httpx.AsyncClient, core: Any, query: str, expected: str
) -> None:
    """Paging, order and filters arrive as the contract's fields."""
    from google.protobuf import text_format

    answer = await client.get(f"{URL}?{query}")
    (request,) = core.asked("list")
    wanted = text_format.Parse(expected, type(request)())
    wanted.filter.SetInParent()

    assert answer.status_code == 200, answer.text
    assert request == wanted


BODIES: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b" ", b""),
    (b"null", b""),
    (b"{}", b""),
    (b'{"k":{"a":[1,null]},"big":12345678901234567890}', b'{"k":{"a":[1,null]},"big":12345678901234567890}'),
]  # fmt: skip


@pytest.mark.parametrize(("body", "metadata"), BODIES)
async def test_a_body_on_get_filters_by_metadata(
    client: httpx.AsyncClient, core: Any, body: bytes, metadata: bytes
) -> None:
    """An object in the body of the GET is the metadata filter; nothing and null are no filter."""
    answer = await client.request(
        "GET", URL, content=body, headers={"content-type": "application/json"}
    )
    (request,) = core.asked("list")

    assert answer.status_code == 200
    assert request.filter.metadata_json == metadata


async def test_the_body_wins_over_the_query(client: httpx.AsyncClient, core: Any) -> None:
    """Both forms of the filter add up; where they name the same key the body counts."""
    await client.request("GET", URL + "?metadata[a]=1&metadata[b]=2", json={"a": 3})
    (request,) = core.asked("list")

    assert json.loads(request.filter.metadata_json) == {"a": 3, "b": "2"}


REFUSED: list[tuple[str, bytes, list[tuple[list[str], str]]]] = [
    ("limit=0", b"", [(["query", "limit"], "greater_than_equal")]),
    ("limit=101", b"", [(["query", "limit"], "less_than_equal")]),
    ("limit=", b"", [(["query", "limit"], "int_type")]),
    ("limit=1.5", b"", [(["query", "limit"], "int_type")]),
    ("offset=-1", b"", [(["query", "offset"], "greater_than_equal")]),
    ("offset=9223372036854775808", b"", [(["query", "offset"], "less_than_equal")]),
    ("order=up", b"", [(["query", "order"], "enum")]),
    (
        "limit=x&offset=x&order=x",
        b"",
        [
            (["query", "limit"], "int_type"),
            (["query", "offset"], "int_type"),
            (["query", "order"], "enum"),
        ],
    ),
    ("", b"[]", [(["body"], "dict_type")]),
    ("", b'"x"', [(["body"], "dict_type")]),
]


@pytest.mark.parametrize(("query", "body", "problems"), REFUSED)
async def test_what_is_out_of_range_is_named(
    client: httpx.AsyncClient, core: Any, query: str, body: bytes, problems: Any
) -> None:
    """A wrong parameter is a 422 with every one of them in `detail`, and the first in the envelope."""
    answer = await client.request("GET", f"{URL}?{query}", content=body)
    detail = answer.json()["detail"]

    assert answer.status_code == 422
    assert [(problem["loc"], problem["type"]) for problem in detail] == problems
    assert all(problem["msg"] for problem in detail)
    assert answer.json()["error"]["code"] == "validation_error"
    assert answer.json()["error"]["param"] == (problems[0][0][1:] or [None])[0]
    assert core.asked("list") == []


@pytest.mark.parametrize("body", [b"{", b"[", b'{"a":"\xff"}', b"[" * 100_000])
async def test_a_malformed_filter_is_invalid_json(client: httpx.AsyncClient, body: bytes) -> None:
    """A body that is not JSON is a 400 on a GET too."""
    answer = await client.request("GET", URL, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


IDS = ["chatcmpl-1", "a b", "a/b", "%2F", "ä☃", "..", "a?b#c", "register", "a%zz"]


@pytest.mark.parametrize("completion_id", IDS)
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
async def test_any_id_can_be_asked_for(
    client: httpx.AsyncClient, core: Any, base: str, completion_id: str
) -> None:
    """An id reaches the core as it is, whatever characters it has."""
    path = f"{base}/chat/completions/{quote(completion_id, safe='').replace('.', '%2E')}"
    answer = await client.get(path, headers={"content-type": "application/json"})

    assert answer.status_code == 200
    assert answer.json() == {**RECORD, "id": completion_id}
    assert [request.id for request in core.asked("get")] == [completion_id]


async def test_an_unknown_id_is_a_404(client: httpx.AsyncClient, core: Any) -> None:
    """The core's word on an unknown record reaches the client."""

    async def unknown(_: Any, context: Any) -> None:
        await core.fail(context, "COMPLETION_NOT_FOUND", "No such completion.")

    core.on_get = unknown
    answer = await client.get(f"{URL}/nope")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "completion_not_found"
    assert core.asked("access") == []
