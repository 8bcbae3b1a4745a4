"""What is checked of each registered item."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway import Gateway
from registering import INPUT, PATH, output, register


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture
def label(http: httpx.Client) -> str:
    """A container of the test's own."""
    name = f"box-{uuid.uuid4().hex[:8]}"
    made = http.post("/v1/containers", json={"label": name, "initial_model": "mock/m1"})
    assert made.status_code == 200, made.text
    return name


BAD_INPUTS = [
    ({"messages": []}, "messages"),
    ({}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "robot"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]},
        "messages[0].tool_calls[0].function.name",
    ),
    ({**INPUT, "temperature": "hot"}, "temperature"),
    ({**INPUT, "max_tokens": 1.5}, "max_tokens"),
    ({**INPUT, "seed": 2**63}, "seed"),
    ({**INPUT, "n": 0}, "n"),
    ({**INPUT, "stop": [1]}, "stop[0]"),
    ({**INPUT, "logit_bias": {"1": "x"}}, "logit_bias"),
    ({**INPUT, "tools": [{"type": "function"}]}, "tools[0].function"),
    ({**INPUT, "tools": [{"function": {"name": "f", "parameters": []}}]}, "parameters"),
    ({**INPUT, "tool_choice": "maybe"}, "tool_choice"),
    ({**INPUT, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({**INPUT, "reasoning": {"effort": "some"}}, "reasoning.effort"),
    ({**INPUT, "metadata": []}, "metadata"),
    ({**INPUT, "tags": "a"}, "tags"),
    ({**INPUT, "trace": {}}, "trace.id"),
    ({**INPUT, "trace": {"id": "t", "x": 1}}, "trace.x"),
    ({**INPUT, "stream": "yes"}, "stream"),
]


@pytest.mark.parametrize(("given", "param"), BAD_INPUTS)
@pytest.mark.usefixtures("upstream")
def test_an_input_is_checked_as_a_request_is(
    http: httpx.Client, label: str, given: dict[str, Any], param: str
) -> None:
    """What creation refuses, a registration refuses for the same field, and for that item only."""
    created = http.post("/v1/chat/completions", json={"model": "mock/m1", **given})
    answer = register(http, label, {"input": INPUT}, {"input": given})

    assert created.status_code == 400
    assert answer["summary"]["inserted"] == 1
    (error,) = answer["errors"]
    assert error.keys() == {"index", "code", "message"}
    assert (error["index"], error["code"]) == (1, created.json()["error"]["code"])
    assert error["message"].startswith("input.")
    assert param in error["message"]


@pytest.mark.usefixtures("upstream")
def test_an_input_may_have_all_that_a_request_may_have(http: httpx.Client, label: str) -> None:
    """Every documented field, and unknown ones, pass both; what is kept is the request as it was given."""
    given: dict[str, Any] = {
        "messages": [
            {"role": "developer", "content": "Be."},
            {
                "role": "user",
                "content": [
                    {"text": "See"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning": "Hm",
                "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}],
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
                "annotations": [],
            },
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "max_tokens": 64.0,
        "logit_bias": {"50256": -1},
        "stop": "x",
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object"}},
        },
        "reasoning": {"effort": "low", "max_tokens": 5},
        "parallel_tool_calls": None,
        "stream_options": {"include_usage": True},
        "top_k": 12345678901234567,
    }
    created = http.post("/v1/chat/completions", json={"model": "mock/m1", **given})
    identity = f"{label}-all"
    answer = register(http, label, {"input": given, "output": output(id=identity)})
    explained = http.get(f"/v1/chat/completions/{identity}/explain").json()

    assert created.status_code == 200, created.text
    assert answer["errors"] == []
    kept = {
        key: value
        for key, value in given.items()
        if key not in ("messages", "stream_options") and value is not None
    }
    assert explained["parameters"] == kept


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (5, "Must be object"),
        ({}, "input: Field required"),
        ({"input": None}, "input: Field required"),
        ({"input": INPUT, "more": 1}, "more: Extra inputs"),
        ({"input": INPUT, "tags": "a"}, "tags: Must be"),
        ({"input": [1]}, "input: must be an object"),
        ({"input": INPUT, "metadata": [1]}, "metadata: must be an object"),
        ({"input": INPUT, "output": {}}, "output.choices: is required"),
        ({"input": INPUT, "output": {"choices": [{"message": []}]}}, "output.choices[0].message"),
        ({"input": INPUT, "output": {"choices": [{"message": {}}]}}, "message.role: is required"),
        (
            {
                "input": INPUT,
                "output": {"choices": [{"index": 0.5, "message": {"role": "assistant"}}]},
            },
            "output.choices[0].index: must be a whole number",
        ),
        ({"input": INPUT, "output": output(tags=[1])}, "output.tags[0]"),
        ({"input": INPUT, "tags": ["x"] * 257}, "tags: must not hold more than 256 items"),
        ({"input": INPUT, "output": output(spend=-1)}, "output.spend"),
        ({"input": INPUT, "output": output(id="x" * 600)}, "output.id"),
        (
            {"input": INPUT, "output": output(usage={"prompt_tokens": 10**18})},
            "output.usage: is out of range",
        ),
    ],
)
def test_a_bad_item_fails_alone(http: httpx.Client, label: str, item: Any, message: str) -> None:
    """Its place and its fault are named; the items around it are registered."""
    answer = register(http, label, {"input": INPUT}, item, {"input": INPUT})

    assert [answer["summary"][key] for key in ("received", "inserted", "failed")] == [3, 2, 1]
    assert answer["ok"] is True
    assert answer["errors"][0]["index"] == 1
    assert message in answer["errors"][0]["message"]


@pytest.mark.parametrize(
    "item",
    [
        b'{"input": }',
        b'{"input": {"messages": [{"role": "user", "content": "\xff"}]}}',
        b'{"input": {"messages": [{"role": "user", "content": "x", "y": "\\ud800"}]}}',
        b'{"input": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    ],
)
def test_an_item_that_is_not_json_fails_alone(http: httpx.Client, label: str, item: bytes) -> None:
    """Broken JSON, broken UTF-8, half a surrogate pair and endless nesting are faults of that item."""
    good = json.dumps({"input": INPUT}).encode()
    body = b'{"items":[%s,%s,%s],"container":"%s"}' % (good, item, good, label.encode())
    answer = http.post(PATH, content=body).json()

    assert answer["summary"]["inserted"] == 2
    assert [(error["index"], error["code"]) for error in answer["errors"]] == [(1, "invalid_json")]


def test_200_errors_are_named_and_all_are_counted(http: httpx.Client, label: str) -> None:
    """The first errors in order, whichever side found them; nothing inserted is not ok."""
    items = [{"input": {"messages": []}} if i % 2 else {"x": i} for i in range(500)]
    answer = register(http, label, *items)

    assert answer["ok"] is False
    assert answer["summary"]["failed"] == 500
    assert [error["index"] for error in answer["errors"]] == list(range(200))


def test_a_compressed_registration_is_refused_as_such(http: httpx.Client, label: str) -> None:
    """Nothing of it is read: the refusal says what to do instead of that the JSON is broken."""
    body = gzip.compress(json.dumps({"container": label, "items": []}).encode())
    answer = http.post(PATH, content=body, headers={"content-encoding": "gzip"})

    assert answer.status_code == 400
    assert "compressed" in answer.json()["error"]["message"]
