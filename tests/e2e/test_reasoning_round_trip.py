"""Thinking and signatures through a loop of tool calls with the `openai` client: out, and back to the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway import KEY, Gateway
from openai import OpenAI
from upstream import Exchange, Handler, Upstream

QUESTION = {"role": "user", "content": "Weather in Rome, and the time?"}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("weather", "time")
]
CONFIG = """
[core]
local_model = "off"
[providers.anthropic]
kind = "anthropic"
base_url = "{url}"
api_key_env = "A_KEY"
[providers.gemini]
kind = "gemini"
base_url = "{url}"
api_key_env = "A_KEY"
"""
CLAUDE_BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me\nthink: ä ", "signature": "S1+/=="},
    {"type": "redacted_thinking", "data": "opaque=="},
    {"type": "thinking", "thinking": "", "signature": "S2"},
    {"type": "text", "text": "I look."},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"n": 12345678901234567890}},
    {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
]
CLAUDE_USAGE: dict[str, Any] = {
    "input_tokens": 10,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 70,
}
GEMINI_PARTS: list[dict[str, Any]] = [
    {"text": "Hm. ", "thought": True},
    {"text": "I look."},
    {"functionCall": {"name": "weather", "args": {"n": 1}}, "thoughtSignature": "G1=="},
    {"functionCall": {"name": "time", "args": {}}},
]


@pytest.fixture(scope="module")
def gateway(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with providers that translate."""
    config = CONFIG.format(url=_upstream.base_url.removesuffix("/v1"))
    gateway = Gateway(tmp_path_factory.mktemp("reasoning"), config, environ={"A_KEY": "secret"})
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def claude_events() -> Iterator[dict[str, Any]]:
    """Return the blocks as a stream, texts in pieces of four characters."""
    message = {"model": "claude-sonnet-4-5", "usage": {**CLAUDE_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(CLAUDE_BLOCKS):
        kind = str(block["type"])
        empty = {"thinking": "", "signature": "", "text": "", "input": {}}
        start = {**block, **{key: empty[key] for key in block if key in empty}}
        yield {"type": "content_block_start", "index": index, "content_block": start}
        pieces: list[dict[str, Any]] = []
        if kind == "thinking":
            text = str(block["thinking"])
            pieces += [{"type": "thinking_delta", "thinking": piece} for piece in cut(text)]
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        elif kind == "text":
            pieces += [{"type": "text_delta", "text": piece} for piece in cut(str(block["text"]))]
        elif kind == "tool_use" and block["input"]:
            text = json.dumps(block["input"])
            pieces += [{"type": "input_json_delta", "partial_json": piece} for piece in cut(text)]
        for piece in pieces:
            yield {"type": "content_block_delta", "index": index, "delta": piece}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use"},
        "usage": {"output_tokens": 70},
    }
    yield {"type": "message_stop"}


def cut(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


def answering(whole: Any, events: list[Any]) -> Handler:
    """Answer by a whole answer or its stream, as asked."""

    async def handle(exchange: Exchange) -> None:
        if exchange.json.get("stream") or "stream" in exchange.path:
            await exchange.begin_stream()
            for event in events:
                await exchange.event(event)
            await exchange.chunk(b"")
        else:
            await exchange.respond(200, json.dumps(whole).encode())

    return handle


def ask(client: OpenAI, model: str, messages: Any, *, stream: bool) -> Any:
    """Ask, and return the completion; a stream is put together by the client's own helper."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "tools": TOOLS,
        "extra_body": {"reasoning": {"effort": "low"}},
    }
    if not stream:
        return client.chat.completions.create(**body)
    with client.chat.completions.stream(**body) as events:
        return events.get_final_completion()


def go_on(client: OpenAI, model: str, completion: Any, *, stream: bool) -> None:
    """Send the message back as it came, with results in another order than the calls."""
    message = completion.choices[0].message
    assert completion.choices[0].finish_reason == "tool_calls"
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"of {call.function.name}"}
        for call in reversed(message.tool_calls)
    ]
    sent = [QUESTION, message.model_dump(exclude_unset=True), *results]
    ask(client, model, sent, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6"])
def test_claude_gets_its_thinking_back_verbatim(
    client: OpenAI, upstream: Upstream, model: str, *, stream: bool
) -> None:
    """Text, signatures and opaque blocks return in their order, in front of text and calls."""
    whole = {
        "type": "message",
        "content": CLAUDE_BLOCKS,
        "stop_reason": "tool_use",
        "usage": CLAUDE_USAGE,
    }
    upstream.handler = answering(whole, list(claude_events()))
    completion = ask(client, f"anthropic/{model}", [QUESTION], stream=stream)
    assert completion.choices[0].message.reasoning == "Let me\nthink: ä "
    go_on(client, f"anthropic/{model}", completion, stream=stream)

    sent = upstream.last.json
    assert sent["messages"][1] == {"role": "assistant", "content": CLAUDE_BLOCKS}
    assert [block["tool_use_id"] for block in sent["messages"][2]["content"]] == [
        "toolu_1",
        "toolu_2",
    ]
    assert sent["thinking"]["type"] in ("enabled", "adaptive")


@pytest.mark.parametrize("stream", [False, True])
def test_gemini_gets_its_signatures_back(
    client: OpenAI, upstream: Upstream, *, stream: bool
) -> None:
    """The signature returns on the call it came with; results go by the ids the gateway made."""

    def chunk(parts: list[Any], finish: str | None = None) -> dict[str, Any]:
        candidate = {"index": 0, "content": {"parts": parts}, "finishReason": finish}
        return {"candidates": [candidate], "responseId": "r1"}

    events = [*(chunk([part]) for part in GEMINI_PARTS), chunk([{"text": ""}], "STOP")]
    upstream.handler = answering(chunk(GEMINI_PARTS, "STOP"), events)
    completion = ask(client, "gemini/gemini-3-pro-preview", [QUESTION], stream=stream)
    assert completion.choices[0].message.reasoning == "Hm. "
    go_on(client, "gemini/gemini-3-pro-preview", completion, stream=stream)

    text, *calls = upstream.last.json["contents"][1]["parts"]
    assert text == {"text": "I look."}
    assert [call.get("thoughtSignature") for call in calls] == ["G1==", None]
    ids = [call["functionCall"]["id"] for call in calls]
    responses = [part["functionResponse"] for part in upstream.last.json["contents"][2]["parts"]]
    assert [response["id"] for response in responses] == ids
    assert [response["name"] for response in responses] == ["weather", "time"]


def test_price_rows_are_explained(gateway: Gateway, upstream: Upstream) -> None:
    """The rows used are shown, and every bucket is charged by its own: the cache's for 5 minutes and an hour apart."""
    whole = {"content": [{"type": "text", "text": "Hi"}], "usage": CLAUDE_USAGE}
    upstream.handler = answering(whole, [])
    with gateway.client() as http:
        body = {"model": "anthropic/claude-sonnet-4-5", "messages": [QUESTION]}
        made = http.post("/v1/chat/completions", json=body).json()
        response = http.get(f"/v1/chat/completions/{made['id']}/explain")

    found = explained(response)
    assert found["prices"]["input"] == "0.000003"
    assert found["prices"]["cache_write_1h"] == "0.000006"
    micro_usd = 10 * 3 + 200 * 0.3 + 100 * 3.75 + 200 * 6 + 70 * 15
    assert found["spend"] == pytest.approx(micro_usd / 1e6)
    assert found["attempts"][0]["spend"] == found["spend"]


def explained(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
