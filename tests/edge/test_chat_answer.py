"""The JSON of whole answers and of streams."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 7,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def events(text: str) -> list[Any]:
    """Return the events of a stream, checking its framing."""
    assert text.endswith("\n\n")
    frames = text[:-2].split("\n\n")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    assert frames[-1] == "data: [DONE]"
    return [json.loads(frame[6:]) for frame in frames[:-1]]


@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
async def test_a_whole_answer_has_the_closed_shape(
    client: httpx.AsyncClient, core: Any, base: str
) -> None:
    """A completion has the keys of the contract and no others."""
    answer = await client.post(f"{base}/chat/completions", json=REQUEST)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
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
        "usage": USAGE,
    }
    assert len(core.asked("create")) == 1


def step(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """Return a chunk of a stream without the usage key."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_800_000_000,
        "model": "openai/gpt-4o",
        "provider": "openai",
        "container": "support",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}],
    }


STEPS = [
    step({"role": "assistant", "content": ""}),
    step({"content": "Hello"}),
    step({"content": "."}, "stop"),
]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
async def test_a_stream_has_no_usage_unless_asked(
    client: httpx.AsyncClient, core: Any, options: Any
) -> None:
    """Chunks carry identity, deltas and no usage key; headers keep proxies from buffering."""
    body = {**REQUEST, "stream": True, "stream_options": options}
    answer = await client.post(URL, json=body)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-ratelimit-remaining"] == "599"
    assert events(answer.text) == STEPS
    assert core.asked("create") == []


async def test_a_stream_ends_with_usage_when_asked(client: httpx.AsyncClient) -> None:
    """With include_usage every chunk has the key, and a last one without choices has the numbers."""
    body = {**REQUEST, "stream": True, "stream_options": {"include_usage": True}}
    answer = await client.post(URL, json=body)

    assert events(answer.text) == [
        *({**chunk, "usage": None} for chunk in STEPS),
        {**STEPS[0], "choices": [], "usage": USAGE},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_core_says_in_metadata_becomes_headers(
    client: httpx.AsyncClient, core: Any, stream: bool
) -> None:
    """Dropped parameters and timing of the core are headers of the answer."""
    metadata = (
        ("x-maniac-dropped-params", "seed,logit_bias"),
        ("server-timing", "queue;dur=0.1"),
        ("x-other", "secret"),
    )

    async def answer_with_metadata(_: Any, context: Any) -> Any:
        from maniac_gateway.v1 import chat_pb2

        await context.send_initial_metadata(metadata)
        return chat_pb2.CreateChatCompletionResponse(completion=core.completion())

    async def stream_with_metadata(_: Any, context: Any) -> Any:
        await context.send_initial_metadata(metadata)
        yield core.chunk(role="assistant")

    core.on_create, core.on_stream = answer_with_metadata, stream_with_metadata
    answer = await client.post(URL, json={**REQUEST, "stream": stream})

    assert answer.headers["x-maniac-dropped-params"] == "seed,logit_bias"
    assert answer.headers["server-timing"] == "queue;dur=0.1"
    assert "x-other" not in answer.headers


async def test_a_fault_of_the_edge_is_a_500_without_details(
    client: httpx.AsyncClient, core: Any, edge: Any
) -> None:
    """Something unforeseen is a 500 in the envelope, and its traceback is in the log beside the request id."""
    from maniac_gateway.v1 import chat_pb2

    async def nonsense(_: Any, __: Any) -> Any:
        message = chat_pb2.ChatMessage(role="assistant", extra_json=b"{nonsense")
        answered = core.completion(choices=[chat_pb2.Choice(message=message)])
        stored = core.stored_completion("chatcmpl-1", completion=answered)
        return chat_pb2.GetChatCompletionResponse(completion=stored)

    core.on_get = nonsense
    answer = await client.get(f"{URL}/chatcmpl-1", headers={"x-request-id": "fault-1"})
    record = json.loads((await edge.line('.*"exception".*')).group())

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "nonsense" not in answer.text
    assert record["request_id"] == "fault-1"
    assert "DecodeError" in record["exception"]
