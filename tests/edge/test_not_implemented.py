"""What the contract has and this gateway does not do yet: a 501 after validation, which clients do not repeat."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

RUN = {"container": "c", "evaluators": ["e"]}
TRAINING = {"container": "c", "base_models": ["m"], "evals": [], "methods": [{"type": "sft"}]}
ASKED = {"model": "m", "input": "Hi"}
GENERATED = {"type": "generate", "models": ["m"]}
VALID: list[tuple[str, str, Any]] = [
    ("POST", "/evaluation/runs", RUN),
    (
        "POST",
        "/evaluation/runs",
        {**RUN, "sample": GENERATED, "ground_truth": {"type": "dataset", "dataset": "d"}},
    ),
    ("GET", "/evaluation/runs?limit=5&container=c&status=running", None),
    ("GET", "/evaluation/runs/x", None),
    ("POST", "/evaluation/runs/x/cancel", None),
    ("POST", "/optimization/runs", TRAINING),
    (
        "POST",
        "/optimization/runs",
        {**TRAINING, "data_source": {"type": "file", "file": "f", "range": "0:9"}},
    ),
    ("POST", "/rlm/responses", ASKED),
    (
        "POST",
        "/rlm/responses",
        {
            **ASKED,
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "stream": False,
            "rlm": {"max_depth": 2, "tool_config": {"a": 1}},
        },
    ),
    ("GET", "/rlm/responses/x", None),
]


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
@pytest.mark.parametrize(("method", "path", "body"), VALID)
async def test_a_valid_request_is_a_501(
    client: httpx.AsyncClient, base: str, method: str, path: str, body: Any
) -> None:
    """With its code, and the header that keeps clients from trying again."""
    answer = await client.request(method, base + path, json=body)

    assert answer.status_code == 501, answer.text
    assert answer.json()["error"]["type"] == "api_error"
    assert answer.json()["error"]["code"] == "not_implemented"
    assert answer.headers["x-should-retry"] == "false"


INVALID: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/evaluation/runs", {**RUN, "evaluators": []}, 422, "evaluators"),
    ("POST", "/evaluation/runs", {"container": "c"}, 422, "evaluators"),
    ("POST", "/evaluation/runs", {**RUN, "sample": {"type": "x"}}, 422, "sample"),
    (
        "POST",
        "/evaluation/runs",
        {**RUN, "sample": {"type": "dataset", "dataset": "d", "range": "all"}},
        422,
        "sample",
    ),
    (
        "POST",
        "/evaluation/runs",
        {**RUN, "sample": GENERATED, "ground_truth": GENERATED},
        422,
        "ground_truth",
    ),
    ("GET", "/evaluation/runs?limit=0", None, 422, "limit"),
    ("POST", "/optimization/runs", {**TRAINING, "methods": [{"type": "dpo"}]}, 422, "methods"),
    ("POST", "/optimization/runs", {}, 422, "container"),
    ("POST", "/rlm/responses", {"model": "m"}, 400, "input"),
    ("POST", "/rlm/responses", {**ASKED, "store": True}, 400, "store"),
    ("POST", "/rlm/responses", {**ASKED, "stream": True}, 400, "stream"),
    ("POST", "/rlm/responses", {**ASKED, "reasoning": {"effort": "x"}}, 400, "reasoning"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "param"), INVALID)
async def test_what_is_not_valid_is_said_first(
    client: httpx.AsyncClient, *, method: str, path: str, body: Any, status: int, param: str
) -> None:
    """A client that will work once this exists can be written today."""
    answer = await client.request(method, f"/v1{path}", json=body)

    assert answer.status_code == status, answer.text
    assert param in answer.json()["error"]["param"]
