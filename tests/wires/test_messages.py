"""The `anthropic` package, unmodified, in front of providers of every dialect."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from gateway import KEY, Gateway
from messages_events import added_up, events_in
from providers import Exchange, Handler, Providers, status
from pydantic import TypeAdapter
from recordings import Recording, load, named
from test_recordings import play

HI: list[Any] = [{"role": "user", "content": "Hi"}]
TOOL: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
STREAMS = named("anthropic-stream-*", "gemini-stream-*", "openai-stream-*")
_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def answer_with(body: Any) -> Handler:
    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, json.dumps(body).encode())

    return handle


def native_message(*content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_upstream",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
        **more,
    }


@pytest.mark.usefixtures("providers")
def test_a_message_of_another_dialect_has_anthropics_form(client: anthropic.Anthropic) -> None:
    """Text, the reason for the end and disjoint counts, from a provider that speaks chat."""
    message = client.messages.create(model="openai/m1", max_tokens=64, messages=HI)

    assert message.id.startswith("msg_")
    assert [block.text for block in message.content if block.type == "text"] == ["Hello!"]
    assert (message.role, message.type, message.model) == ("assistant", "message", "openai/m1")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 3)


@pytest.mark.usefixtures("providers")
def test_a_stream_adds_up_to_its_final_message(client: anthropic.Anthropic) -> None:
    """The client's own helper reads the events, and its final message is that of a whole answer."""
    with client.messages.stream(model="openai/m1", max_tokens=64, messages=HI) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(model="openai/m1", max_tokens=64, messages=HI)

    assert text == "Hello!"
    assert [block.text for block in whole.content if block.type == "text"] == [text]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_a_request_is_translated_for_chat(
    client: anthropic.Anthropic, providers: Providers
) -> None:
    """System prompt, images, documents, calls, their results and tools arrive in chat's form."""
    client.messages.create(
        model="openai/gpt-4o",
        max_tokens=64,
        system=[{"type": "text", "text": "Be brief."}],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": "It failed.",
                        "is_error": True,
                    },
                    {"type": "text", "text": "Well?"},
                ],
            },
        ],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        extra_body={"temperature": 0.5},
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                }
            ],
        },
        {"role": "tool", "content": "It failed.", "tool_call_id": "t1"},
        {"role": "user", "content": "Well?"},
    ]
    assert sent["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": TOOL["input_schema"],
            },
        }
    ]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)
    assert (sent["stop"], sent["temperature"], sent["max_tokens"]) == (["END"], 0.5, 64)


def test_a_call_and_its_result_go_round(client: anthropic.Anthropic, providers: Providers) -> None:
    """A call of a chat provider is a tool_use block, whose id comes back with the result."""

    async def handle(exchange: Exchange) -> None:
        if exchange.json["messages"][-1]["role"] == "tool":
            await exchange.answer("Sunny.")
            return
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
        }
        await exchange.answer("", tool_calls=[call], finish_reason="tool_calls")

    providers.handlers["openai"] = handle
    first = client.messages.create(model="openai/m1", max_tokens=64, messages=HI, tools=[TOOL])
    (block,) = [block for block in first.content if block.type == "tool_use"]
    second = client.messages.create(
        model="openai/m1",
        max_tokens=64,
        messages=[
            *HI,
            {"role": "assistant", "content": first.content},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": block.id, "content": "25 degrees"}
                ],
            },
        ],
        tools=[TOOL],
    )

    assert first.stop_reason == "tool_use"
    assert (block.id, block.name, block.input) == ("call_1", "weather", {"city": "Rome"})
    assert [block.text for block in second.content if block.type == "text"] == ["Sunny."]


def test_a_request_reaches_anthropic_as_it_was_sent(gateway: Gateway, providers: Providers) -> None:
    """Unknown keys, blocks and betas arrive, in their order; only the gateway's own keys are taken out."""
    body = {
        "future_key": {"deep": [1, 2.50, "x"]},
        "model": "anthropic/claude-x",
        "tags": ["a"],
        "maniac_metadata": {"user": "u"},
        "max_tokens": 64,
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "tools": [
            {**TOOL, "defer_loading": True},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "block_of_tomorrow", "payload": {"a": None}}]}
        ],
    }
    message = native_message({"type": "text", "text": "Hi."}, future={"a": 1})
    providers.handlers["anthropic"] = answer_with(message)
    with gateway.client() as http:
        answer = http.post(
            "/v1/messages?beta=true", json=body, headers={"anthropic-beta": "one-1,two-2"}
        )
    (exchange,) = providers.requests("anthropic")

    assert answer.status_code == 200
    expected = {key: value for key, value in body.items() if key not in ("tags", "maniac_metadata")}
    assert exchange.json == {**expected, "model": "claude-x"}
    assert list(exchange.json) == list(expected)
    assert exchange.headers["anthropic-beta"] == "one-1,two-2"
    assert exchange.path.endswith("/messages?beta=true")
    got = answer.json()
    assert got["id"].startswith("msg_")
    assert got["id"] != "msg_upstream"
    assert {**message, "id": got["id"], "model": "anthropic/claude-x"} == got


@pytest.mark.parametrize("path", STREAMS)
def test_recorded_streams_are_events_of_the_client(
    gateway: Gateway, providers: Providers, path: Any
) -> None:
    """Every event has the form that the package declares, and the deltas are what the answer holds."""
    recording = load(path)
    events = events_of(gateway, providers, recording)

    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events].index("message_stop") == len(events) - 1
    if recording.model.startswith("anthropic/"):
        # As their provider made them, at a time when the package declared other fields.
        return
    for event in events:
        _event.validate_python(event)
    assert Message.model_validate(added_up(events)).content is not None


@pytest.mark.parametrize(
    "path", named("anthropic-stream-parts-thinking-01", "openai-stream-chat-streaming-01")
)
def test_a_cut_never_looks_like_an_end(gateway: Gateway, providers: Providers, path: Any) -> None:
    """Wherever the provider breaks off, the stream ends with an error, and never with message_stop."""
    recording = load(path)
    size = len(recording.body)
    for position in range(size // 10, size - size // 10, size // 7):
        provider = recording.model.partition("/")[0]
        providers.handlers[provider] = play(recording, [recording.body[:position]], cut=True)
        text = stream(gateway, recording.model)
        assert "event: message_stop" not in text
        assert "event: error" in text or '"type":"error"' in text


def test_a_last_event_that_is_missing_is_added(gateway: Gateway, providers: Providers) -> None:
    """Some servers end their answers without it; nothing in another form is put in its place."""
    recording = load(named("anthropic-stream-parts-thinking-01")[0].values[0])
    whole_text = recording.body.decode()
    without = whole_text[: whole_text.index("event: message_stop")].encode()
    providers.handlers["anthropic"] = play(recording, [without])
    events = events_in(stream(gateway, recording.model))

    assert [event["type"] for event in events][-2:] == ["message_delta", "message_stop"]
    assert all("chat.completion" not in json.dumps(event) for event in events)


@pytest.mark.parametrize(
    ("http_status", "kind", "error"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
    ],
)
def test_failures_of_providers_are_errors_of_the_client(
    client: anthropic.Anthropic,
    providers: Providers,
    http_status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    """The package raises its own class of error, with Anthropic's type in the body."""
    providers.handlers["openai"] = status(http_status)
    with pytest.raises(error) as raised:
        client.messages.create(model="openai/m1", max_tokens=64, messages=HI)

    body: Any = raised.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"]


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("change", "http_status", "kind"),
    [
        ({"model": "nobody/none"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"max_tokens": 1.5}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error"),
        ({"tools": [{"input_schema": []}]}, 400, "invalid_request_error"),
    ],
)
def test_bad_input_names_the_field(
    gateway: Gateway, change: dict[str, Any], http_status: int, kind: str
) -> None:
    """Errors are in Anthropic's form, also those of the edge itself."""
    body = {"model": "openai/m1", "max_tokens": 64, "messages": HI, **change}
    with gateway.client() as http:
        answer = http.post("/v1/messages", json=body)

    assert answer.status_code == http_status
    assert answer.json()["error"]["type"] == kind
    field = next(iter(change))
    assert field in answer.json()["error"]["message"] or field == "model"


def test_other_refusals_have_anthropics_form(gateway: Gateway) -> None:
    """A wrong key, no JSON, another verb, a path that does not exist."""
    wrong = httpx.post(f"{gateway.base_url}/messages", json={}, headers={"x-api-key": "mk-wrong"})
    with gateway.client() as http:
        broken = http.post("/v1/messages", content=b"{")
        verb = http.get("/v1/messages")
        nothing = http.get("/v1/messages/none")

    answers = (wrong, broken, verb, nothing)
    assert [answer.status_code for answer in answers] == [401, 400, 405, 404]
    assert wrong.json()["error"]["type"] == "authentication_error"
    assert broken.json()["error"]["type"] == "invalid_request_error"
    assert verb.json()["error"]["type"] == "invalid_request_error"
    assert verb.headers["allow"] == "OPTIONS, POST"
    assert nothing.json()["error"]["type"] == "not_found_error"


def test_reasoning_goes_round_sealed(gateway: Gateway, providers: Providers) -> None:
    """Gemini's thought signatures come back to Gemini, and nobody else can read, forge or use them."""
    recording = load(named("gemini-stream-tools-with-gemini-3-thought-signatures-01")[0].values[0])
    events = events_of(gateway, providers, recording)
    message = added_up(events)
    providers.reset()
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "done"}
        for block in message["content"]
        if block["type"] == "tool_use"
    ]
    body: dict[str, Any] = {
        "model": recording.model,
        "max_tokens": 64,
        "messages": [
            *HI,
            {"role": "assistant", "content": message["content"]},
            {"role": "user", "content": results},
        ],
    }
    with gateway.client() as http:
        http.post("/v1/messages", json=body)
        (sent,) = [exchange.body for exchange in providers.requests("gemini")]
        body["model"] = "anthropic/claude-x"
        http.post("/v1/messages", json=body)
        (native,) = [exchange.body for exchange in providers.requests("anthropic")]
        sealed = next(
            block
            for block in message["content"]
            if block.get("signature") or block["type"] == "redacted_thinking"
        )
        key = "signature" if sealed.get("signature") else "data"
        sealed[key] = sealed[key][:-6] + "AAAA=="
        body["model"] = recording.model
        forged = http.post("/v1/messages", json=body)

    assert b"thoughtSignature" in sent or b"thought_signature" in sent
    assert b"mgs1." not in sent
    assert b"mgs1." not in native
    assert forged.status_code == 400


def stream(gateway: Gateway, model: str, **more: Any) -> str:
    body = {"model": model, "max_tokens": 64, "messages": HI, "stream": True, **more}
    with gateway.client() as http:
        return str(http.post("/v1/messages", json=body).text)


def events_of(gateway: Gateway, providers: Providers, recording: Recording) -> list[dict[str, Any]]:
    providers.handlers[recording.model.partition("/")[0]] = play(recording)
    text = stream(gateway, recording.model, tools=[TOOL])
    events = events_in(text)
    if events[-1]["type"] == "error":
        pytest.skip(f"the recording ends with an error: {events[-1]}")
    return [event for event in events if event["type"] != "ping"]


def test_keys_of_both_kinds_are_accepted(gateway: Gateway, providers: Providers) -> None:
    """Anthropic's clients send x-api-key, some tools a bearer token."""
    del providers
    body = {"model": "openai/m1", "max_tokens": 64, "messages": HI}
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
        assert (
            httpx.post(f"{gateway.base_url}/messages", json=body, headers=headers).status_code
            == 200
        )


def test_tokens_are_counted_by_anthropic_and_estimated_elsewhere(
    client: anthropic.Anthropic, gateway: Gateway, providers: Providers
) -> None:
    """What is an estimate says so; what Anthropic counts is asked as the client wrote it, without what it refuses."""
    providers.handlers["anthropic"] = answer_with({"input_tokens": 42})
    counted = client.messages.count_tokens(
        model="anthropic/claude-x", messages=HI, tools=[TOOL], system="Be brief."
    )
    (exchange,) = providers.requests("anthropic")
    with gateway.client() as http:
        body = {"model": "openai/m1", "messages": HI}
        estimated = http.post("/v1/messages/count_tokens", json=body)
        for_responses = http.post(
            "/v1/responses/input_tokens", json={"model": "openai/m1", "input": "Hi"}
        )
        for_gemini = http.post(
            "/v1beta/models/openai/m1:countTokens", json={"contents": [{"parts": [{"text": "Hi"}]}]}
        )
        providers.handlers["anthropic"] = status(500)
        failed = http.post("/v1/messages/count_tokens", json={**body, "model": "anthropic/x"})

    assert counted.input_tokens == 42
    assert exchange.path.endswith("/messages/count_tokens")
    assert exchange.json == {
        "model": "claude-x",
        "messages": HI,
        "tools": [TOOL],
        "system": "Be brief.",
    }
    assert estimated.json()["input_tokens"] > 0
    assert for_responses.json()["object"] == "response.input_tokens"
    assert for_gemini.json()["totalTokens"] > 0
    for answer in (estimated, for_responses, for_gemini, failed):
        assert answer.headers["x-maniac-estimated"] == "true"
    assert not providers.requests("openai")


def test_models_are_listed_for_anthropics_client(client: anthropic.Anthropic) -> None:
    """In its form, page by page."""
    page = client.models.list(limit=3)
    following = page.get_next_page() if page.has_next_page() else page

    assert all(model.type == "model" for model in page.data)
    assert page.last_id == page.data[-1].id
    assert following.data


def test_the_record_has_one_form_and_keeps_the_clients_own(
    gateway: Gateway, providers: Providers
) -> None:
    """Lists and details show what chat would, and the request and answer as they were."""
    message = native_message({"type": "text", "text": "Hi."})
    providers.handlers["anthropic"] = answer_with(message)
    body = {"model": "anthropic/claude-x", "max_tokens": 64, "messages": HI, "tags": ["wires"]}
    with gateway.client() as http:
        made = http.post("/v1/messages", json=body).json()
        stored = http.get(f"/v1/chat/completions/{made['id']}").json()
        explained = http.get(f"/v1/chat/completions/{made['id']}/explain").json()
        hidden = http.post("/v1/messages", json={**body, "store": False}).json()
        nothing = http.get(f"/v1/chat/completions/{hidden['id']}/explain").json()

    assert (stored["wire"], stored["choices"][0]["message"]["content"]) == ("messages", "Hi.")
    assert stored["tags"] == ["wires"]
    assert explained["wire"] == nothing["wire"] == "messages"
    assert explained["native_request"] == body
    assert json.loads(explained["native_answer"]) == message
    assert nothing["native_request"] is None
    assert nothing["native_answer"] is None
