"""Failures of the core as clients see them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import httpx
import pytest
from maniac_gateway.v1 import errors_pb2

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
REASONS = [name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()]  # noqa: SIM118
TYPES = {
    "invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error",
    "api_error", "overloaded_error",
}  # fmt: skip
# Clients repeat these by themselves, which helps in no case.
PERMANENT = {
    409: None,
    429: {"quota_exceeded"},
    501: None,
    502: {"provider_key_missing", "upstream_auth"},
}


async def failing(client: httpx.AsyncClient, core: Any, reason: str, **options: Any) -> Any:
    """Return the answer to a request that the core fails for a reason."""

    async def refuse(_: Any, context: Any) -> None:
        await core.fail(context, reason, "It failed.", **options)

    core.on_create = refuse
    return await client.post(URL, json=REQUEST)


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_has_its_row(client: httpx.AsyncClient, core: Any, reason: str) -> None:
    """Each reason of the table is answered with its status, type and code, and the retry headers of its row."""
    number = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")
    options = errors_pb2.ErrorReason.DESCRIPTOR.values_by_number[number].GetOptions()
    row = options.Extensions[errors_pb2.error_mapping]
    answer = await failing(client, core, reason)
    error = answer.json()["error"]

    assert answer.status_code == row.http_status
    assert error == {
        "message": "It failed.",
        "type": row.type,
        "param": None,
        "code": row.code,
        "details": None,
    }
    assert error["type"] in TYPES
    assert ("detail" in answer.json()) == (answer.status_code == 422)
    assert answer.headers["x-ratelimit-limit"] == "600"
    codes = PERMANENT.get(answer.status_code, set())
    expected = "false" if codes is None or row.code in codes else None
    assert answer.headers.get("x-should-retry") == expected


async def test_facts_beside_the_message_reach_the_envelope(
    client: httpx.AsyncClient, core: Any
) -> None:
    """The field an error is about and its details are in the envelope."""
    metadata = {"param": "model", "details_json": '{"tried":["a"]}'}
    answer = await failing(client, core, "MODEL_NOT_FOUND", metadata=metadata)

    assert answer.json()["error"]["param"] == "model"
    assert answer.json()["error"]["details"] == {"tried": ["a"]}


async def test_validation_errors_name_every_field(client: httpx.AsyncClient, core: Any) -> None:
    """A 422 of the core lists its violations as paths, and the envelope names the first."""
    violations = [
        ("body.messages.0.role", "Must be a role.", "enum"),
        ("query.limit", "Too large.", "less_than_equal"),
    ]
    answer = await failing(client, core, "VALIDATION_ERROR", violations=violations)

    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "messages[0].role"
    assert answer.json()["detail"] == [
        {"loc": ["body", "messages", 0, "role"], "msg": "Must be a role.", "type": "enum"},
        {"loc": ["query", "limit"], "msg": "Too large.", "type": "less_than_equal"},
    ]


RETRY_AFTER: list[tuple[str, float, str]] = [
    ("RATE_LIMIT_EXCEEDED", 7, "7"),
    ("RATE_LIMIT_EXCEEDED", 6.2, "7"),
    ("RATE_LIMIT_EXCEEDED", 0, "1"),
    ("UPSTREAM_RATE_LIMITED", 3600, "60"),
    ("UPSTREAM_OVERLOADED", 2, "2"),
]


@pytest.mark.parametrize(("reason", "delay_s", "expected"), RETRY_AFTER)
async def test_retry_after_is_whole_seconds_up_to_sixty(
    client: httpx.AsyncClient, core: Any, reason: str, delay_s: float, expected: str
) -> None:
    """Retry-After is an integer from 1 to 60, whatever the core or a provider says."""
    answer = await failing(client, core, reason, retry_after_s=delay_s)

    assert answer.headers["retry-after"] == expected


async def test_the_window_tells_when_the_core_does_not(
    client: httpx.AsyncClient, core: Any
) -> None:
    """A 429 of our own limiter without a delay says when the window ends."""
    reset = int(time.time()) + 30
    trailing = (("x-ratelimit-reset", str(reset)), ("x-ratelimit-remaining", "0"))
    answer = await failing(client, core, "RATE_LIMIT_EXCEEDED", trailing=trailing)

    assert 28 <= int(answer.headers["retry-after"]) <= 30
    assert answer.headers["x-ratelimit-remaining"] == "0"


async def test_every_429_says_when_to_come_back(client: httpx.AsyncClient, core: Any) -> None:
    """A provider's limit without a delay is answered with one all the same."""
    answer = await failing(client, core, "UPSTREAM_RATE_LIMITED")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


BARE: list[tuple[grpc.StatusCode, int, str]] = [
    (grpc.StatusCode.CANCELLED, 503, "dependency_unavailable"),
    (grpc.StatusCode.UNKNOWN, 500, "internal_error"),
    (grpc.StatusCode.INVALID_ARGUMENT, 400, "invalid_value"),
    (grpc.StatusCode.DEADLINE_EXCEEDED, 502, "upstream_timeout"),
    (grpc.StatusCode.NOT_FOUND, 500, "internal_error"),
    (grpc.StatusCode.ALREADY_EXISTS, 409, "conflict"),
    (grpc.StatusCode.PERMISSION_DENIED, 403, "insufficient_scope"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, 503, "dependency_unavailable"),
    (grpc.StatusCode.FAILED_PRECONDITION, 409, "conflict"),
    (grpc.StatusCode.ABORTED, 503, "dependency_unavailable"),
    (grpc.StatusCode.OUT_OF_RANGE, 400, "invalid_value"),
    (grpc.StatusCode.UNIMPLEMENTED, 501, "not_implemented"),
    (grpc.StatusCode.INTERNAL, 500, "internal_error"),
    (grpc.StatusCode.UNAVAILABLE, 503, "dependency_unavailable"),
    (grpc.StatusCode.DATA_LOSS, 500, "internal_error"),
    (grpc.StatusCode.UNAUTHENTICATED, 401, "invalid_api_key"),
]


@pytest.mark.parametrize(("code", "status", "expected"), BARE)
async def test_a_status_without_a_reason_goes_by_its_code(
    client: httpx.AsyncClient, core: Any, code: grpc.StatusCode, status: int, expected: str
) -> None:
    """What the transport says is mapped by its code, and its text, which names sockets, is kept back."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(code, "unix:/secret/core.sock")

    core.on_create = refuse
    answer = await client.post(URL, json=REQUEST)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, expected)
    assert "secret" not in answer.text
    assert answer.headers.get("retry-after") == (
        "1" if expected == "dependency_unavailable" else None
    )


async def test_a_crash_of_the_core_is_a_500(client: httpx.AsyncClient, core: Any) -> None:
    """An exception in the core's servicer is an internal error without its text."""

    async def crash(_: Any, __: Any) -> None:
        raise RuntimeError("secret")

    core.on_create = crash
    answer = await client.post(URL, json=REQUEST)

    assert answer.status_code == 500
    assert "secret" not in answer.text


async def test_a_call_that_outlives_its_deadline_fails(
    start_edge: Any, core: Any, shared_core: Any
) -> None:
    """The edge's deadline travels with the call, and its passing is a 502 `upstream_timeout`."""
    remaining: list[float] = []

    async def wait(_: Any, context: Any) -> Any:
        remaining.append(context.time_remaining())
        await asyncio.Event().wait()

    core.on_create = wait
    async with (
        start_edge(shared_core.target, completion_timeout_s=1) as edge,
        edge.client() as client,
    ):
        answer = await client.post(URL, json=REQUEST)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_timeout"
    # gRPC rounds deadlines up.
    assert 0 < remaining[0] < 1.05
