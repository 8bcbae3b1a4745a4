"""The `openai` package's Responses, unmodified, in front of providers of every dialect."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from gateway import KEY, Gateway
from openai.types.responses import Response, ResponseStreamEvent
from providers import Exchange, Providers, body, status
from recordings import Recording, load, named
from responses_events import check_items, events_in
from test_recordings import play

STREAMS = named("anthropic-stream-*", "gemini-stream-*", "openai-stream-*")
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
_event: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)


@pytest.fixture
def openai_client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.usefixtures("providers")
def test_a_response_has_openais_form(openai_client: openai.OpenAI) -> None:
    """Text, status and counts, from a provider that speaks chat."""
    response = openai_client.responses.create(
        model="openai/m1", input="Hi", instructions="Be kind."
    )

    assert response.id.startswith("resp_")
    assert response.output_text == "Hello!"
    assert (response.status, response.model, response.object) == (
        "completed",
        "openai/m1",
        "response",
    )
    assert response.instructions == "Be kind."
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 3)


@pytest.mark.usefixtures("providers")
def test_a_stream_adds_up_to_its_final_response(openai_client: openai.OpenAI) -> None:
    """The client's own helper reads the events, and its final response is that of a whole answer."""
    with openai_client.responses.stream(model="openai/m1", input="Hi") as stream:
        text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        final = stream.get_final_response()
    whole = openai_client.responses.create(model="openai/m1", input="Hi")

    assert text == final.output_text == whole.output_text == "Hello!"
    assert final.usage == whole.usage
    assert [item.type for item in final.output] == [item.type for item in whole.output]


def test_a_request_is_translated_for_chat(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Items become messages: those of one turn of the model one message, results after their calls."""
    openai_client.responses.create(
        model="openai/gpt-4o",
        instructions="Be brief.",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {
                        "type": "input_image",
                        "image_url": "https://a.example/x.png",
                        "detail": "low",
                    },
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "of OpenAI"},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"},
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "a.txt"},
        ],
        tools=[
            WEATHER,
            {"type": "custom", "name": "shell", "description": "Runs a command."},
            {
                "type": "namespace",
                "name": "fs",
                "description": "x",
                "tools": [{**WEATHER, "name": "read"}],
            },
            {"type": "web_search"},
        ],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        max_output_tokens=64,
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
        reasoning={"effort": "low"},
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    def call(call_id: str, name: str, arguments: str) -> Any:
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://a.example/x.png", "detail": "low"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [call("c1", "weather", "{}"), call("c2", "shell", '{"input":"ls"}')],
        },
        {"role": "tool", "content": "Sunny.", "tool_call_id": "c1"},
        {"role": "tool", "content": "a.txt", "tool_call_id": "c2"},
    ]
    names = [tool["function"]["name"] for tool in sent["tools"]]
    assert names == ["weather", "shell", "fs__read"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert (sent["parallel_tool_calls"], sent["max_tokens"], sent["reasoning_effort"]) == (
        False,
        64,
        "low",
    )
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_what_this_api_does_not_have_goes_on(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Keys that are the provider's own, and what chat has by another name; what is only of this API is named."""
    answer = openai_client.responses.with_raw_response.create(
        model="openai/m1",
        input="Hi",
        text={"verbosity": "low"},
        truncation="auto",
        extra_body={"top_k": 5, "seed": 7, "image": {"x": 1}, "client_metadata": {"a": "b"}},
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    assert (sent["top_k"], sent["seed"], sent["verbosity"]) == (5, 7, "low")
    assert not sent.keys() & {"text", "truncation", "image", "client_metadata"}
    assert answer.headers["x-maniac-dropped-params"] == "image"


def test_the_model_sees_what_a_custom_tool_takes(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Its grammar is in the description; a choice of a tool in a namespace has the name that the model sees."""
    grammar: Any = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    openai_client.responses.create(
        model="openai/m1",
        input="Hi",
        tools=[
            {"type": "custom", "name": "patch", "format": grammar},
            {
                "type": "namespace",
                "name": "fs",
                "description": "x",
                "tools": [{**WEATHER, "name": "read"}],
            },
        ],
        extra_body={"tool_choice": {"type": "function", "name": "read", "namespace": "fs"}},
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    taken = sent["tools"][0]["function"]["parameters"]["properties"]["input"]
    assert taken["description"].endswith("lark grammar:\nstart: WORD")
    assert sent["tool_choice"]["function"]["name"] == "fs__read"


def test_calls_come_back_as_the_clients_tools(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Functions, custom tools with their plain text, and tools of a namespace under their own names."""

    async def handle(exchange: Exchange) -> None:
        calls = [
            {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(
                [
                    ("weather", '{"city":"Rome"}'),
                    ("shell", '{"input":"ls \\"x\\""}'),
                    ("fs__read", "{}"),
                ]
            )
        ]
        await exchange.answer("", tool_calls=calls)

    providers.handlers["openai"] = handle
    response = openai_client.responses.create(
        model="openai/m1",
        input="Hi",
        tools=[
            WEATHER,
            {"type": "custom", "name": "shell"},
            {
                "type": "namespace",
                "name": "fs",
                "description": "x",
                "tools": [{**WEATHER, "name": "read"}],
            },
        ],
    )
    output = [item.to_dict() for item in response.output]

    assert [(item["type"], item["name"]) for item in output] == [
        ("function_call", "weather"),
        ("custom_tool_call", "shell"),
        ("function_call", "read"),
    ]
    assert output[0]["arguments"] == '{"city":"Rome"}'
    assert output[1]["input"] == 'ls "x"'
    assert output[2]["namespace"] == "fs"


@pytest.mark.parametrize("path", STREAMS)
def test_recorded_streams_are_events_of_the_client(
    gateway: Gateway, providers: Providers, path: Any
) -> None:
    """Every event has the form that the package declares, numbers have no gap, and deltas are what is done."""
    recording = load(path)
    events = events_of(gateway, providers, recording)

    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        _event.validate_python(event, strict=False)
    final = events[-1]["response"]
    assert events[-1]["type"] == f"response.{final['status']}"
    assert Response.model_validate(final).id == events[0]["response"]["id"]
    check_items(events, final["output"])


@pytest.mark.parametrize("path", STREAMS)
def test_where_the_provider_breaks_its_bytes_is_nobodys_business(
    gateway: Gateway, providers: Providers, path: Any
) -> None:
    """Cut between any two bytes, the same stream gives the same events."""
    recording = load(path)
    whole = events_of(gateway, providers, recording)
    chance = random.Random(path.stem)
    size = len(recording.body)
    for count in (1, 40):
        cuts = sorted({0, size, *(chance.randrange(size) for _ in range(count))})
        pieces = [recording.body[a:b] for a, b in itertools.pairwise(cuts)]
        again = events_of(gateway, providers, recording, pieces)
        assert [nameless(event) for event in again] == [nameless(event) for event in whole]


def nameless(event: dict[str, Any]) -> Any:
    """Return an event without what differs between two requests: ids and times."""
    # Calls of Gemini have ids of the gateway's making.
    hidden = {"id", "item_id", "call_id", "created_at", "completed_at"}

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cleaned(inner) for key, inner in value.items() if key not in hidden}
        return [cleaned(inner) for inner in value] if isinstance(value, list) else value

    return cleaned(event)


@pytest.mark.parametrize(
    "path", named("anthropic-stream-parts-thinking-01", "openai-stream-chat-streaming-01")
)
def test_a_cut_never_looks_like_an_end(gateway: Gateway, providers: Providers, path: Any) -> None:
    """Wherever the provider breaks off, the stream ends with an error."""
    recording = load(path)
    size = len(recording.body)
    for position in range(size // 10, size - size // 10, size // 7):
        provider = recording.model.partition("/")[0]
        providers.handlers[provider] = play(recording, [recording.body[:position]], cut=True)
        text = stream(gateway, recording.model)
        assert "response.completed" not in text
        assert '"type":"error"' in text or '"error":{' in text


@pytest.mark.parametrize(
    "name",
    [
        "gemini-stream-tools-with-gemini-3-thought-signatures-01",
        "anthropic-stream-parts-thinking-01",
    ],
)
def test_reasoning_goes_round_sealed(gateway: Gateway, providers: Providers, name: str) -> None:
    """What a provider needs again comes back to it, if the client asks to carry it."""
    recording = load(named(name)[0].values[0])
    include = {"include": ["reasoning.encrypted_content"], "store": False}
    events = events_of(gateway, providers, recording, **include)
    output = events[-1]["response"]["output"]
    assert any(
        item.get("encrypted_content", "").removeprefix("call:").startswith("mgs1.")
        for item in output
    )
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
        for item in output
        if item["type"] == "function_call"
    ] or [{"role": "user", "content": "Go on."}]
    providers.reset()
    body = {
        "model": recording.model,
        "input": [{"role": "user", "content": "Hi"}, *output, *results],
        **include,
    }
    with gateway.client() as http:
        answer = http.post("/v1/responses", json=body)
    provider = recording.model.partition("/")[0]
    (sent,) = [exchange.body for exchange in providers.requests(provider)]

    assert b"thoughtSignature" in sent or b'"signature"' in sent
    assert b"mgs1." not in sent
    assert answer.status_code != 400


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("change", "http_status", "param"),
    [
        ({"model": "nobody/none"}, 404, "model"),
        ({"model": None}, 400, "model"),
        ({"input": []}, 400, "input"),
        ({"input": [{"type": "function_call", "name": "x"}]}, 400, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0]"),
        (
            {"input": [{"type": "compaction", "encrypted_content": "mgc1.?"}]},
            400,
            "input[0].encrypted_content",
        ),
        ({"max_output_tokens": 1.5}, 400, "max_output_tokens"),
        ({"tools": [{"type": "function"}]}, 400, "tools[0].name"),
        (
            {"tools": [{"type": "namespace", "name": "a", "tools": [{"type": "function"}]}]},
            400,
            "tools[0].tools[0].name",
        ),
        ({"tool_choice": {"type": "web_search"}}, 400, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, 400, "tool_choice"),
        ({"previous_response_id": "resp_unknown"}, 404, "previous_response_id"),
        (
            {
                "input": [
                    {"type": "reasoning", "summary": [], "encrypted_content": "mgs1.AAAA"},
                    {"role": "user", "content": "x"},
                ]
            },
            400,
            "messages[0].seals",
        ),
    ],
)
def test_bad_input_names_the_field(
    gateway: Gateway, change: dict[str, Any], http_status: int, param: str
) -> None:
    """Errors have the envelope of chat."""
    with gateway.client() as http:
        answer = http.post("/v1/responses", json={"model": "openai/m1", "input": "Hi", **change})

    assert answer.status_code == http_status, answer.text
    assert answer.json()["error"]["param"] == param


@pytest.mark.usefixtures("providers")
def test_what_codex_sends_gets_through(gateway: Gateway) -> None:
    """Tools of all types, options that chat has no word for; what is dropped is named."""
    body = {
        "model": "openai/m1",
        "instructions": "You are a coding agent.",
        "input": [
            {
                "type": "message",
                "role": "developer",
                "content": [{"type": "input_text", "text": "a"}],
            },
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
        ],
        "tools": [
            WEATHER,
            {
                "type": "custom",
                "name": "apply_patch",
                "format": {"type": "grammar", "syntax": "lark", "definition": "x"},
            },
            {"type": "namespace", "name": "mcp", "tools": [{**WEATHER, "name": "get"}]},
            {"type": "web_search"},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "client_metadata": {"a": "b"},
    }
    with gateway.client() as http:
        answer = http.post("/v1/responses", json=body)

    assert answer.status_code == 200
    assert "response.completed" in answer.text
    assert "tools[3]" in answer.headers["x-maniac-dropped-params"]


def test_a_conversation_is_compacted_by_its_model(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """What comes back is input for the next request, and the model sees the summary in it."""
    compacted = openai_client.responses.compact(
        model="openai/m1",
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "What is in a.txt?"},
            {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Salt."},
        ],
    )
    (asked,) = [exchange.json for exchange in providers.requests("openai")]
    output: Any = [item.model_dump(exclude_unset=True, warnings=False) for item in compacted.output]
    openai_client.responses.create(
        model="openai/m1", input=[*output, {"role": "user", "content": "Go on."}]
    )
    *_, sent = [exchange.json for exchange in providers.requests("openai")]

    transcript = asked["messages"][1]["content"]
    assert all(text in transcript for text in ("Be brief.", "a.txt", "read with {}", "Salt."))
    assert compacted.usage.total_tokens == 12
    assert [item["type"] for item in output] == ["message", "compaction"]
    contents = [message["content"] for message in sent["messages"]]
    assert (contents[0], contents[2]) == ("What is in a.txt?", "Go on.")
    assert contents[1].endswith("\n\nHello!")


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_the_package_parses_structured_output(
    openai_client: openai.OpenAI, providers: Providers, kind: str
) -> None:
    """`responses.parse` returns an object of the class that was asked for, from every dialect."""

    class Place(pydantic.BaseModel):
        city: str

    text = '{"city":"Rome"}'
    answers: dict[str, Any] = {
        "openai": {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
        },
        "anthropic": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m1",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 9, "output_tokens": 3},
        },
        "gemini": {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [{"text": text}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
        },
    }
    providers.handlers[kind] = body(json.dumps(answers[kind]).encode())
    # A model that has structured output, so that no dialect puts a tool in its place.
    model = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}.get(kind, "gpt-4o")
    parsed = openai_client.responses.parse(
        model=f"{kind}/{model}", input="Where?", text_format=Place
    ).output_parsed

    assert parsed == Place(city="Rome")


def test_failures_of_providers_have_their_status(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Before the first content a failure is an error with its status."""
    providers.handlers["openai"] = status(429)
    with pytest.raises(openai.RateLimitError):
        openai_client.responses.create(model="openai/m1", input="Hi", stream=True)


def test_stored_responses_are_read_continued_and_deleted(
    openai_client: openai.OpenAI, providers: Providers, gateway: Gateway
) -> None:
    """Retrieval, its input, its events, a continuation, and the end of it."""
    responses = openai_client.responses
    first = responses.create(
        model="openai/m1", input="My name is Ada.", instructions="A", store=True
    )
    second = responses.create(
        model="openai/m1",
        input="What is it?",
        instructions="B",
        store=True,
        previous_response_id=first.id,
    )
    third = responses.create(model="openai/m1", input="Sure?", previous_response_id=second.id)
    sent = [exchange.json["messages"] for exchange in providers.requests("openai")]

    assert responses.retrieve(first.id).to_dict() == first.to_dict()
    assert [item.to_dict()["content"] for item in responses.input_items.list(first.id)] == [
        [{"type": "input_text", "text": "My name is Ada."}]
    ]
    events = list(responses.retrieve(first.id, stream=True, starting_after=1))
    assert events[0].sequence_number == 2
    assert events[-1].type == "response.completed"
    assert events[-1].response.to_dict() == first.to_dict()
    assert sent[1] == [
        {"role": "system", "content": "B"},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is it?"},
    ]
    assert [message["content"] for message in sent[2]] == [
        *("My name is Ada.", "Hello!", "What is it?", "Hello!", "Sure?")
    ]
    assert second.previous_response_id == first.id
    with pytest.raises(openai.NotFoundError):
        # Not asked to be stored.
        responses.retrieve(third.id)
    responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(first.id)
    assert responses.cancel(second.id).status == "completed"
    with gateway.client() as http:
        explained = http.get(f"/v1/chat/completions/{second.id}/explain")
    assert explained.status_code == 200


def stream(gateway: Gateway, model: str, **more: Any) -> str:
    body = {"model": model, "input": "Hi", "stream": True, **more}
    with gateway.client() as http:
        return str(http.post("/v1/responses", json=body).text)


def events_of(
    gateway: Gateway,
    providers: Providers,
    recording: Recording,
    pieces: list[bytes] | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    providers.handlers[recording.model.partition("/")[0]] = play(recording, pieces)
    text = stream(gateway, recording.model, **more)
    if "event: response.created" not in text or "event: error" in text:
        pytest.skip(f"the recording is of a failure: {text[-200:]}")
    assert text.endswith("data: [DONE]\n\n")
    return events_in(text)


@pytest.mark.parametrize(
    "path",
    [
        "responses",
        "responses/compact",
        "responses/input_tokens",
        "messages",
        "completions",
        "embeddings",
    ],
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null"])
def test_what_is_no_json_object_is_a_400_everywhere(
    gateway: Gateway, path: str, body: bytes
) -> None:
    """Whatever the wire."""
    with gateway.client() as http:
        answer = http.post(f"/v1/{path}", content=body)

    assert answer.status_code == 400, answer.text
