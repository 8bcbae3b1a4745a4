"""Answers that something happened to, through the whole gateway: answered or refused, recorded once, readable after."""

from __future__ import annotations

import json
import uuid
from typing import Any

import grpc
import httpx
import malformed
import pytest
from gateway import KEY, Gateway
from ledger import Ledger
from maniac_gateway.v1 import chat_pb2, chat_pb2_grpc
from providers import Exchange, Handler, Providers, chunk, events, text

MODELS = {"openai": "openai/m", "anthropic": "anthropic/claude-x", "gemini": "gemini/gemini-x"}
TYPES = {"invalid_request_error", "rate_limit_error", "api_error", "overloaded_error"}
SEEDS = range(60)


def send(data: bytes, content_type: str) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, data, content_type)

    return handle


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", MODELS)
def test_no_answer_of_a_provider_does_harm(
    gateway: Gateway, providers: Providers, ledger: Ledger, kind: str, *, stream: bool
) -> None:
    """The client gets an answer or an error of the contract, there is one record, and everything can still be read."""
    answered = 0
    with gateway.client() as http:
        for seed in SEEDS:
            data = malformed.stream(kind, seed) if stream else malformed.whole(kind, seed)
            content_type = "text/event-stream" if stream else "application/json"
            providers.handlers[kind] = send(data, content_type)
            request_id = f"malformed-{kind}-{stream}-{seed}"
            answered += ask(http, MODELS[kind], request_id, stream=stream)
            record = ledger.record(request_id)
            assert record["status"] in ("completed", "failed", "truncated")
            assert record["error_reason"] != "INTERNAL_ERROR"
            if record["status"] == "completed":
                assert record["usage_source"] in ("provider", "estimated")
        read_everything(gateway, http)
    assert answered > len(SEEDS) / 10


def ask(http: httpx.Client, model: str, request_id: str, *, stream: bool) -> bool:
    """Ask, check what comes, and say whether it was an answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    response = http.post("/v1/chat/completions", json=body, headers={"x-request-id": request_id})
    if response.status_code != 200:
        check_error(response.json()["error"])
        assert response.status_code != 500
        return False
    if not stream:
        assert response.json()["choices"]
        return True
    frames = [frame.removeprefix("data: ") for frame in response.text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    last = [json.loads(frame) for frame in frames if not frame.startswith(":")][-1]
    if "error" in last:
        check_error(last["error"])
        return False
    return bool(last["choices"][0]["finish_reason"])


def check_error(error: dict[str, Any]) -> None:
    assert error["type"] in TYPES
    assert error["code"] not in ("", None, "internal_error")
    assert error["message"]


def read_everything(gateway: Gateway, http: httpx.Client) -> None:
    """Read back all that there is, by every way there is."""
    skipped, found = 0, []
    while page := http.get(f"/v1/chat/completions?limit=100&offset={skipped}").json()["data"]:
        skipped += len(page)
        found += [item["id"] for item in page]
    assert len(found) >= len(SEEDS)
    for completion_id in found[: len(SEEDS)]:
        assert http.get(f"/v1/chat/completions/{completion_id}").status_code == 200
        assert http.get(f"/v1/chat/completions/{completion_id}/explain").status_code == 200
    for path in ("/v1/usage", "/v1/usage?group_by=model", "/v1/traces"):
        assert http.get(path).status_code == 200
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        stub = chat_pb2_grpc.ChatServiceStub(channel)
        exported = stub.ExportChatCompletions(
            chat_pb2.ExportChatCompletionsRequest(),
            metadata=[("authorization", f"Bearer {KEY}")],
        )
        lines = b"".join(part.chunk for part in exported).splitlines()
    assert len([json.loads(line) for line in lines]) >= len(SEEDS)


@pytest.mark.parametrize(
    "case",
    [
        ("openai", "refusal", {"a": 1}, "choices[0].message.refusal is an object"),
        ("openai", "name", ["n"], "choices[0].message.name is an array"),
        ("openai", "content", 7, "choices[0].message.content is a whole number"),
        ("openai", "tool_calls", [{"function": {"name": []}}], "tool_calls[0].function.name"),
        ("anthropic", "text", {"a": 1}, "content[0].text is an object"),
        ("gemini", "text", [1], "candidates[0].content.parts[0].text is an array"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told_and_what_it_cost_is_booked(
    gateway: Gateway,
    providers: Providers,
    ledger: Ledger,
    case: tuple[str, str, Any, str],
) -> None:
    """The error names the field, is not paid for a second time, and the record has the provider's own counts."""
    kind, field, value, told = case
    answers = {
        "openai": {
            "choices": [{"message": {"content": "Hi", field: value}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5},
        },
        "anthropic": {
            "content": [{"type": "text", "text": "Hi", field: value}],
            "usage": {"input_tokens": 9, "output_tokens": 5},
        },
        "gemini": {
            "candidates": [{"content": {"parts": [{field: value}]}}],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5},
        },
    }
    providers.handlers[kind] = send(json.dumps(answers[kind]).encode(), "application/json")
    request_id = f"told-{kind}-{field}"
    with gateway.client() as http:
        response = http.post(
            "/v1/chat/completions",
            json={"model": MODELS[kind], "messages": [{"role": "user", "content": "Hi"}]},
            headers={"x-request-id": request_id},
        )

    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")
    assert told in response.json()["error"]["message"]
    record = ledger.record(request_id)
    assert (record["status"], record["usage_source"]) == ("failed", "provider")
    assert (record["input_tokens"], record["output_tokens"]) == (9, 5)
    assert len(record["attempts"]) == 1
    assert told in record["error_message"]


@pytest.mark.parametrize(
    "case",
    [
        ({"prompt_tokens": 10**30, "completion_tokens": 5}, None, 5),
        ({"prompt_tokens": 9, "completion_tokens": 2**63}, 9, None),
        ({"prompt_tokens": 2**62, "completion_tokens": 2**62, "total_tokens": 2**63}, None, None),
        ({"prompt_tokens": True, "completion_tokens": True}, None, None),
        ({"prompt_tokens": "9", "completion_tokens": "5"}, None, None),
        ({"prompt_tokens": -9, "completion_tokens": 5}, None, 5),
        ({"completion_tokens": 5}, None, 5),
        ({"prompt_tokens": 9}, 9, None),
        ({"prompt_tokens": 9, "completion_tokens": 5.5}, 9, None),
        ({"prompt_tokens": [9], "completion_tokens": {}}, None, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_counts_that_cannot_be_true_are_estimated(
    gateway: Gateway,
    providers: Providers,
    ledger: Ledger,
    case: tuple[dict[str, Any], int | None, int | None],
    *,
    stream: bool,
) -> None:
    """The answer is delivered and recorded once, with an estimate for the count, flagged; a good count stays."""
    counts, prompt, completion = case
    message = {"choices": [{"message": {"content": "Hi there."}}], "usage": counts}
    providers.handlers["main"] = (
        events(
            *text("Hi there."),
            chunk(None, finish_reason="stop"),
            {"choices": [], "usage": counts},
            "[DONE]",
        )
        if stream
        else send(json.dumps(message).encode(), "application/json")
    )
    request_id = f"counts-{uuid.uuid4().hex}"
    with gateway.client() as http:
        assert ask(http, "main/m", request_id, stream=stream)
    record = ledger.record(request_id)
    assert (record["status"], record["usage_source"]) == ("completed", "estimated")
    assert record["input_tokens"] == prompt or (prompt is None and 0 < record["input_tokens"] < 99)
    assert record["output_tokens"] == completion or (
        completion is None and 0 < record["output_tokens"] < 99
    )


@pytest.mark.parametrize("cost", [10**30, 1e300, -1, True, "0.25", [], {"total_cost": -1}])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_cost_that_cannot_be_true_is_none(
    gateway: Gateway, providers: Providers, ledger: Ledger, cost: Any, *, stream: bool
) -> None:
    """The catalogue's price stands instead, where there is one."""
    counts = {"prompt_tokens": 100, "completion_tokens": 10, "cost": cost}
    message = {"choices": [{"message": {"content": "Hi"}}], "usage": counts}
    providers.handlers["openai"] = (
        events(
            *text("Hi"),
            chunk(None, finish_reason="stop"),
            {"choices": [], "usage": counts},
            "[DONE]",
        )
        if stream
        else send(json.dumps(message).encode(), "application/json")
    )
    request_id = f"cost-{uuid.uuid4().hex}"
    with gateway.client() as http:
        assert ask(http, "openai/gpt-4o-mini", request_id, stream=stream)
    record = ledger.record(request_id)
    assert (record["usage_source"], record["spend_nano_usd"]) == ("provider", 21_000)
