"""What passes the core's gates, and the headers that every answer has."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"

REFUSALS: list[tuple[str, str, bytes, int, str]] = [
    ("POST", URL, b"{", 400, "invalid_json"),
    ("POST", URL, b"{}", 400, "missing_required_parameter"),
    ("POST", "/api/v1/chat/completions", b"[]", 400, "invalid_value"),
    ("GET", URL + "?limit=0", b"", 422, "validation_error"),
    ("GET", "/v1/nothing", b"", 404, "route_not_found"),
    ("POST", "/v1", b"", 404, "route_not_found"),
    ("GET", "/api/v1/", b"", 404, "route_not_found"),
    ("PUT", URL, b"", 405, "method_not_allowed"),
    ("PATCH", URL + "/x", b"", 405, "method_not_allowed"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_of_the_edge_passes_the_gates(
    client: httpx.AsyncClient, core: Any, refusal: tuple[str, str, bytes, int, str]
) -> None:
    """What the edge refuses by itself is counted by the core first, and carries its window."""
    method, path, body, status, code = refusal
    answer = await client.request(method, path, content=body)
    (name, request, metadata), *more = core.calls

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-ratelimit-remaining"] == "599"
    assert (name, request.refused_code, more) == ("access", code, [])
    assert request.client_address == "127.0.0.1"
    assert metadata["authorization"] == "Bearer mk-test"


@pytest.mark.parametrize(("method", "path", "body"), [r[:3] for r in REFUSALS])
async def test_the_gates_win_over_a_refusal(
    client: httpx.AsyncClient, core: Any, method: str, path: str, body: bytes
) -> None:
    """A caller without a valid key learns that, and nothing about its request."""

    async def refuse(_: Any, context: Any) -> None:
        await core.fail(context, "INVALID_API_KEY", "Unknown key.")

    core.on_access = refuse
    answer = await client.request(method, path, content=body)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["x-ratelimit-limit"] == "600"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/healthz", 405)]
)
async def test_paths_outside_the_api_need_no_key(
    client: httpx.AsyncClient, core: Any, method: str, path: str, status: int
) -> None:
    """Outside of /v1 nothing asks the core."""
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code", "details"}
    assert core.calls == []


ALLOW = [
    (URL, "GET, HEAD, OPTIONS, POST"),
    (URL + "/x", "DELETE, GET, HEAD, OPTIONS"),
    (URL + "/register", "DELETE, GET, HEAD, OPTIONS, POST"),
    ("/v1/messages", "OPTIONS, POST"),
    ("/healthz", "GET, HEAD, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allow"), ALLOW)
async def test_a_wrong_verb_is_told_the_right_ones(
    client: httpx.AsyncClient, path: str, allow: str
) -> None:
    """A 405 says in Allow what the path takes."""
    answer = await client.request("PATCH", path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(("path", "allow"), ALLOW)
async def test_options_says_what_a_path_takes(
    client: httpx.AsyncClient, path: str, allow: str
) -> None:
    """OPTIONS is answered with Allow, without a key."""
    answer = await client.request("OPTIONS", path, headers={"authorization": ""})

    assert answer.status_code == 204
    assert answer.headers["allow"] == allow


async def test_head_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    """HEAD has the status and the length of GET."""
    got = await client.get("/healthz")
    head = await client.head("/healthz")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("path", [URL, "/api/v1/chat/completions"])
async def test_a_trailing_slash_never_redirects(client: httpx.AsyncClient, path: str) -> None:
    """A path with a slash at its end is the same resource."""
    answer = await client.get(path + "/")

    assert answer.status_code == 200
    assert answer.json()["object"] == "list"


@pytest.mark.parametrize("sent", ["abc-123", "x" * 128, "!~"])
async def test_a_sane_request_id_is_kept(client: httpx.AsyncClient, core: Any, sent: str) -> None:
    """The client's own request id comes back and reaches the core."""
    answer = await client.get(URL, headers={"x-request-id": sent})

    assert answer.headers["x-request-id"] == sent
    assert core.calls[0][2]["x-request-id"] == sent


@pytest.mark.parametrize("sent", [b"x" * 129, b"", b"a b", b"\xe9"])
async def test_another_request_id_is_replaced(
    client: httpx.AsyncClient, core: Any, sent: bytes
) -> None:
    """A request id that logs could not hold is replaced by one of our own."""
    answer = await client.get(URL, headers={b"x-request-id": sent})

    assert re.fullmatch(r"req_[0-9a-f]{24}", answer.headers["x-request-id"])
    assert core.calls[0][2]["x-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/nothing", "/docs", URL])
async def test_every_answer_has_a_request_id(client: httpx.AsyncClient, path: str) -> None:
    """Whatever is answered, it has an id."""
    answer = await client.get(path)

    assert answer.headers["x-request-id"]


async def test_what_the_core_needs_is_forwarded_and_nothing_else(
    client: httpx.AsyncClient, core: Any
) -> None:
    """Key, trace, idempotency and beta headers reach the core; a client cannot pose as an edge."""
    headers = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "idempotency-key": "k1",
        "anthropic-beta": "b1",
        "x-maniac-client-address": "10.0.0.1",
        "x-maniac-project": "other",
        "openai-organization": "o",
        "cookie": "c",
    }
    await client.post(
        URL, json={"model": "m", "messages": [{"role": "user", "content": ""}]}, headers=headers
    )
    metadata = core.calls[0][2]
    del metadata["user-agent"], metadata["x-request-id"]

    assert metadata == {
        "authorization": "Bearer mk-test",
        "traceparent": headers["traceparent"],
        "idempotency-key": "k1",
        "anthropic-beta": "b1",
        "x-maniac-client-address": "127.0.0.1",
    }


@pytest.mark.parametrize("key", [b"Bearer \xe9", b"Bearer " + b"k" * 5000])
async def test_a_key_that_cannot_be_sent_on_is_no_key(edge: Any, core: Any, key: bytes) -> None:
    """A header that gRPC cannot carry is left out, so that the core decides on its absence."""
    async with httpx.AsyncClient(base_url=edge.url) as client:
        answer = await client.get(URL, headers={b"authorization": key})

    assert answer.status_code == 200
    assert "authorization" not in core.calls[0][2]


async def test_a_malformed_traceparent_is_dropped(client: httpx.AsyncClient, core: Any) -> None:
    """A trace header that is none does not reach the core."""
    await client.get(URL, headers={"traceparent": "nonsense"})

    assert "traceparent" not in core.calls[0][2]
