"""OpenAI's Responses behind chat: answers and streams, what may become of them, and models that chat does not have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from asking import Asked
from gateway import Gateway
from ledger import Ledger
from providers import Exchange, Handler, Providers, body, in_turn, status
from responses_exchange import CALL, MESSAGE, REASONING, events, response, sse

Ask = Callable[..., Asked]
ITEMS = (REASONING, MESSAGE, CALL)
TEXT = MESSAGE["content"][0]["text"]
WHOLE = body(json.dumps(response(*ITEMS)).encode())
STREAM = sse(*events(*ITEMS))
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def stream(pieces: Iterable[bytes], *, cut: bool = False) -> Handler:
    """Send a stream in pieces of chunked framing, which a cut leaves open."""

    async def handle(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            await exchange.chunk(piece)
        if cut:
            exchange.close()
        else:
            await exchange.chunk(b"")

    return handle


def failed(**error: Any) -> bytes:
    last = response(status="failed", error=error)
    return sse({"type": "response.failed", "response": last})


@pytest.mark.parametrize("stream_", [False, True])
@pytest.mark.parametrize("name", ["newer", "by_wire"])
def test_chat_is_answered_by_responses(
    asked: Ask, providers: Providers, ledger: Ledger, name: str, *, stream_: bool
) -> None:
    """Whole and streamed, by the kind of the provider or its `wire`, with the provider's counts."""
    providers.handlers[name] = stream([STREAM]) if stream_ else WHOLE

    told = asked(f"{name}/gpt-x", stream=stream_, tools=[TOOL], max_tokens=64)

    assert (told.text, told.finish_reason, told.error) == (TEXT, "tool_calls", None)
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (20, 12)
    [exchange] = providers.requests(name)
    assert exchange.path.endswith("/responses")
    sent = exchange.json
    assert sent["input"] == [{"type": "message", "role": "user", "content": "Hi there"}]
    assert sent["tools"][0]["name"] == "weather"
    assert (sent["max_output_tokens"], sent["store"]) == (64, False)
    assert ledger.record(told.request_id)["usage_source"] == "provider"


def test_reasoning_goes_back_with_its_call(gateway: Gateway, providers: Providers) -> None:
    """What a client sends back unchanged reaches the provider as the items that it made."""
    providers.handlers["newer"] = WHOLE
    question = {"role": "user", "content": "Weather?"}
    with gateway.client() as http:
        ask = {"model": "newer/gpt-x", "messages": [question], "tools": [TOOL]}
        message = http.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."}
        ask["messages"] = [question, message, result]
        assert http.post("/v1/chat/completions", json=ask).status_code == 200
    sent = providers.requests("newer")[-1].json["input"]
    assert [item["type"] for item in sent] == [
        "message",
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert sent[1]["encrypted_content"] == REASONING["encrypted_content"]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_chopping_changes_nothing(asked: Ask, providers: Providers, size: int) -> None:
    """However the bytes arrive."""
    providers.handlers["newer"] = stream(
        [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    )
    told = asked("newer/m", stream=True)
    assert (told.text, told.finish_reason, told.error) == (TEXT, "tool_calls", None)


@pytest.mark.parametrize("cut", [False, True])
def test_a_cut_is_an_error(asked: Ask, providers: Providers, ledger: Ledger, *, cut: bool) -> None:
    """Wherever it comes, also where the bytes end cleanly: it never looks like an end."""
    for at in range(100, len(STREAM) - 100, len(STREAM) // 9):
        providers.handlers["newer"] = stream([STREAM[:at]], cut=cut)
        told = asked("newer/m", stream=True)
        assert told.error is not None
        assert told.finish_reason is None
        assert TEXT.startswith(told.text)
        assert ledger.record(told.request_id)["status"] in ("failed", "truncated")


@pytest.mark.parametrize(
    "pieces",
    [
        [failed(code="server_error", message="Oh.")],
        [sse({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down."})],
        [sse(*events()[:1]), b'data: {"error": {"message": "It broke.", "code": 500}}\n\n'],
        [sse(*events()[:1])],
    ],
    ids=["failed", "error", "bare", "cut"],
)
def test_a_failure_before_the_first_content_falls_back(
    gateway: Gateway, providers: Providers, pieces: list[bytes]
) -> None:
    """As any failure then."""
    providers.handlers["newer"] = stream(pieces)
    body = {
        "model": "newer/m",
        "models": ["spare/m"],
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    with gateway.client() as http:
        answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert '"provider":"spare"' in answer.text
    assert "error" not in answer.text


def test_a_failure_after_the_first_content_is_an_error(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """In the stream, with the provider's words."""
    begun = sse(*[event for event in events(MESSAGE) if "done" not in event["type"]][:-1])
    providers.handlers["newer"] = stream([begun, failed(code="server_error", message="Oh dear.")])
    told = asked("newer/m", stream=True)
    assert told.text == TEXT
    assert "Oh dear." in str(told.error)
    assert ledger.record(told.request_id)["status"] == "truncated"


def test_what_may_pass_is_tried_again(asked: Ask, providers: Providers) -> None:
    """At the same provider."""
    broken = stream([failed(code="server_error", message="Oh.")])
    providers.handlers["newer_again"] = in_turn(broken, status(503), stream([STREAM]))
    told = asked("newer_again/m", stream=True)
    assert (told.text, told.error) == (TEXT, None)
    assert len(providers.requests("newer_again")) == 3


@pytest.mark.parametrize("stream_", [False, True])
@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (status(429, "Slow down.", code="rate_limit_exceeded"), "upstream_rate_limited"),
        (status(400, "Odd.", type="invalid_request_error"), "upstream_rejected"),
        (status(401, "Incorrect API key provided: key-a."), "upstream_auth"),
        (status(404, "The model `m` does not exist.", code="model_not_found"), "model_not_found"),
        (
            body(json.dumps(response(status="failed", error={"code": "server_error"})).encode()),
            "upstream_error",
        ),
    ],
)
def test_failures_are_told_as_those_of_others(
    asked: Ask, providers: Providers, handler: Handler, code: str, *, stream_: bool
) -> None:
    """By status and name; no key is shown."""
    providers.handlers["newer"] = handler
    told = asked("newer/m", stream=stream_)
    assert told.error.code == code
    assert "key-a" not in str(told.error)


@pytest.mark.parametrize("stream_", [False, True])
def test_a_model_that_chat_refuses_is_asked_by_responses(
    asked: Ask, gateway: Gateway, providers: Providers, *, stream_: bool
) -> None:
    """Once after the refusal, at once and in the same request; then without asking chat first."""
    model = f"learning/gpt-of-{stream_}"

    async def handle(exchange: Exchange) -> None:
        if exchange.path.endswith("/chat/completions"):
            words = "Function tools with reasoning_effort are not supported for it in /v1/chat/completions."
            await status(400, words, param="reasoning_effort")(exchange)
        else:
            await (stream([STREAM]) if stream_ else WHOLE)(exchange)

    providers.handlers["learning"] = handle
    first = asked(model, stream=stream_, tools=[TOOL])
    second = asked(model, stream=stream_, tools=[TOOL])

    assert (first.text, second.text) == (TEXT, TEXT)
    paths = [exchange.path.rpartition("/v1")[2] for exchange in providers.requests("learning")]
    assert paths == ["/chat/completions", "/responses", "/responses"]
    with gateway.client() as http:
        record = http.get(f"/v1/chat/completions/{first.completion_id}/explain").json()
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["failed", "ok"]


def test_where_responses_is_not_there_chat_has_the_last_word(
    asked: Ask, providers: Providers
) -> None:
    """A server that only talks of it is asked in chat again."""

    async def handle(exchange: Exchange) -> None:
        if exchange.path.endswith("/chat/completions"):
            words = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
            await status(404, words)(exchange)
        else:
            await status(404, "Not Found")(exchange)

    providers.handlers["learning"] = handle
    assert asked("learning/old", stream=False).status is not None
    providers.handlers["learning"] = providers.good
    assert asked("learning/old", stream=False).text == "Hello!"
