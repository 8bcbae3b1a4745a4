"""Requests for responses to a provider that speaks the same API: they arrive as they were sent, and so do its events."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from gateway import KEY, Gateway
from providers import Exchange, Handler, Providers, body, status
from responses_exchange import CALL, ITEMS, MESSAGE, REASONING, events, response, sse

FUTURE = {"type": "item_of_tomorrow", "id": "x_1", "payload": {"a": None, "b": 2.50}}
BODY: dict[str, Any] = {
    "future_key": {"deep": [1, 2.50, "x"]},
    "model": "newer/gpt-x",
    "tags": ["a"],
    "instructions": "Be kind.",
    "input": [
        {"role": "user", "content": [{"type": "block_of_tomorrow", "x": [1]}], "id": "msg_0"},
        {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "opaque"},
    ],
    "tools": [{"type": "web_search", "filters": {}}, {"type": "mcp", "server_label": "s"}],
    "tool_choice": {"type": "web_search"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "store": True,
}
STREAM = events(FUTURE, *ITEMS)


def play(*items: Any, cut: bool = False) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.chunk(sse(*items))
        if cut:
            exchange.close()
        else:
            await exchange.chunk(b"")

    return handle


def stream(gateway: Gateway, **more: Any) -> str:
    with gateway.client() as http:
        return str(http.post("/v1/responses", json={**BODY, "stream": True, **more}).text)


def parsed(text: str) -> list[Any]:
    blocks = text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


def test_a_request_arrives_as_it_was_sent(gateway: Gateway, providers: Providers) -> None:
    """Unknown keys, items and built-in tools, in their order; the answer comes back but for id and model."""
    sent = response(FUTURE, *ITEMS, future={"a": 1})
    providers.handlers["newer"] = body(json.dumps(sent).encode())
    with gateway.client() as http:
        answer = http.post("/v1/responses", json=BODY)
    (exchange,) = providers.requests("newer")

    assert exchange.path.endswith("/responses")
    expected = {key: value for key, value in BODY.items() if key != "tags"}
    assert exchange.json == {**expected, "model": "gpt-x", "store": False}
    assert list(exchange.json) == list(expected)
    got = answer.json()
    assert got["id"].startswith("resp_")
    assert got["id"] != sent["id"]
    assert got == {**sent, "id": got["id"], "model": "newer/gpt-x"}
    assert "x-maniac-dropped-params" not in answer.headers


def test_events_come_back_as_they_came(gateway: Gateway, providers: Providers) -> None:
    """Every one once, with its number; the last after the capture, and the counts are the provider's."""
    providers.handlers["newer"] = play(*STREAM)
    text = stream(gateway)
    got = parsed(text)
    name = got[0]["response"]["id"]

    assert text.endswith("data: [DONE]\n\n")
    assert name.startswith("resp_")
    for event, sent in zip(got, STREAM, strict=True):
        if "response" in sent:
            sent = {  # noqa: PLW2901 - the same event
                **sent,
                "response": {**sent["response"], "id": name, "model": "newer/gpt-x"},
            }
        assert event == sent
    with gateway.client() as http:
        record = http.get(f"/v1/chat/completions/{name}").json()
        assert http.get(f"/v1/responses/{name}").status_code == 200
    assert record["usage"]["prompt_tokens"] == 20
    assert record["choices"][0]["message"]["content"] == MESSAGE["content"][0]["text"]


def test_the_client_reads_a_stream(gateway: Gateway, providers: Providers) -> None:
    """OpenAI's own, unmodified."""
    providers.handlers["newer"] = play(*events(*ITEMS))
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client,
        client.responses.stream(model="newer/gpt-x", input="Hi") as told,
    ):
        text = "".join(e.delta for e in told if e.type == "response.output_text.delta")
        final = told.get_final_response()
    assert text == final.output_text == MESSAGE["content"][0]["text"]
    assert [item.type for item in final.output] == [item["type"] for item in ITEMS]


def test_a_failure_is_the_gateways_and_has_the_next_number(
    gateway: Gateway, providers: Providers
) -> None:
    """The provider's own error event, which may hold a key, is not passed on; nor does a cut look like an end."""
    begun = STREAM[:-1]
    error = {"type": "error", "code": "server_error", "message": "It has key-of-the-provider."}
    for handler in (play(*begun, error), play(*begun, cut=True), play(*begun)):
        providers.handlers["newer"] = handler
        text = stream(gateway)
        got = parsed(text)
        assert "key-of-the-provider" not in text
        assert [event["type"] for event in got if "sequence_number" not in event] == []
        assert got[:-1] != []
        assert got[-1]["type"] == "error"
        assert got[-1]["sequence_number"] == len(begun)
        assert "response.completed" not in text


def test_a_fallback_that_speaks_chat_gets_it_translated(
    gateway: Gateway, providers: Providers
) -> None:
    """After a failure before the first content."""
    failed = {"type": "response.failed", "response": response(status="failed", error={"code": "x"})}
    providers.handlers["newer"] = play(STREAM[0], failed)
    items = [{"role": "user", "content": "Hi"}]
    text = stream(gateway, models=["spare/m"], tool_choice="auto", input=items)
    assert "response.completed" in text
    assert [exchange.json["messages"] for exchange in providers.requests("spare")] == [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    ]


def test_a_conversation_goes_on_from_a_stored_response(
    gateway: Gateway, providers: Providers
) -> None:
    """The provider keeps none, so it gets all of it, with the reasoning that it made."""
    providers.handlers["newer"] = body(json.dumps(response(REASONING, CALL)).encode())
    ask = {"model": "newer/gpt-x", "input": "Weather?", "store": True}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny."}
    with gateway.client() as http:
        first = http.post("/v1/responses", json=ask).json()
        more = {**ask, "input": [result], "previous_response_id": first["id"]}
        assert http.post("/v1/responses", json=more).status_code == 200
    sent = providers.requests("newer")[-1].json
    assert "previous_response_id" not in sent
    assert [item["type"] for item in sent["input"]] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert sent["input"][1]["encrypted_content"] == REASONING["encrypted_content"]


def test_tokens_are_counted_by_the_provider(gateway: Gateway, providers: Providers) -> None:
    """What says how the answer is to be made is left out; where it cannot be counted it is estimated."""
    counted = {"object": "response.input_tokens", "input_tokens": 11}
    providers.handlers["newer"] = body(json.dumps(counted).encode())
    with gateway.client() as http:
        told = http.post("/v1/responses/input_tokens", json=BODY)
        (exchange,) = providers.requests("newer")
        providers.handlers["newer"] = status(404)
        estimated = http.post("/v1/responses/input_tokens", json=BODY)

    assert exchange.path.endswith("/responses/input_tokens")
    assert list(exchange.json) == ["model", "instructions", "input", "tools", "tool_choice"]
    assert exchange.json["input"] == BODY["input"]
    assert told.json()["input_tokens"] == 11
    assert "x-maniac-estimated" not in told.headers
    assert estimated.headers["x-maniac-estimated"] == "true"


@pytest.mark.parametrize("is_stream", [False, True])
def test_reasoning_goes_round_through_anthropics_client(
    client: anthropic.Anthropic, providers: Providers, *, is_stream: bool
) -> None:
    """Sealed, all of it, whether it came in pieces or whole."""
    ask: Any = {"model": "newer/gpt-x", "max_tokens": 64}
    question: Any = {"role": "user", "content": "Hi"}
    whole = body(json.dumps(response(REASONING, MESSAGE)).encode())
    providers.handlers["newer"] = play(*events(REASONING, MESSAGE)) if is_stream else whole
    if is_stream:
        with client.messages.stream(**ask, messages=[question]) as told:
            message = told.get_final_message()
    else:
        message = client.messages.create(**ask, messages=[question])
    thinking = [block for block in message.content if block.type == "thinking"]
    summary = "\n\n".join(part["text"] for part in REASONING["summary"])
    assert [block.thinking for block in thinking] == [summary]

    providers.handlers["newer"] = whole
    turn: Any = {"role": "assistant", "content": [block.to_dict() for block in message.content]}
    client.messages.create(**ask, messages=[question, turn, question])
    (item,) = [i for i in providers.requests("newer")[-1].json["input"] if i["type"] == "reasoning"]
    assert item == {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": summary}],
        "encrypted_content": REASONING["encrypted_content"],
    }
