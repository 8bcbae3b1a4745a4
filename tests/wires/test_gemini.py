"""Google's own `google-genai` package, unmodified, in front of providers of every dialect."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from embedding_servers import of_openai
from gateway import KEY, Gateway
from google import genai
from google.genai import types
from google.genai.errors import ClientError
from providers import Exchange, Providers, status
from recordings import Recording, load, named
from test_recordings import play

STREAMS = named("anthropic-stream-*", "gemini-stream-*", "openai-stream-*")
WEATHER = {
    "functionDeclarations": [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
        }
    ]
}
HI = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


@pytest.fixture
def google(gateway: Gateway) -> genai.Client:
    options = types.HttpOptions(base_url=gateway.url)
    return genai.Client(api_key=KEY, http_options=options)


@pytest.mark.usefixtures("providers")
def test_content_of_another_dialect_has_geminis_form(google: genai.Client) -> None:
    """Text, the reason for the end and counts, from a provider that speaks chat."""
    made = google.models.generate_content(model="openai/m1", contents="Hi")

    assert made.text == "Hello!"
    assert made.candidates is not None
    assert made.candidates[0].finish_reason is types.FinishReason.STOP
    assert (made.model_version, (made.response_id or "")[:4]) == ("openai/m1", "gen_")
    assert made.usage_metadata is not None
    assert (made.usage_metadata.prompt_token_count, made.usage_metadata.total_token_count) == (
        9,
        12,
    )


@pytest.mark.usefixtures("providers")
def test_a_stream_adds_up(google: genai.Client) -> None:
    """Only the last step has the reason for the end."""
    steps = list(google.models.generate_content_stream(model="openai/m1", contents="Hi"))

    assert "".join(step.text or "" for step in steps) == "Hello!"
    reasons = [step.candidates[0].finish_reason for step in steps if step.candidates]
    assert [reason for reason in reasons if reason is not None] == [types.FinishReason.STOP]
    assert steps[-1].usage_metadata is not None


def test_a_request_is_translated_for_chat(google: genai.Client, providers: Providers) -> None:
    """System instruction, images, calls, results, tools and settings arrive in chat's form."""
    google.models.generate_content(
        model="openai/gpt-4o",
        contents=[
            {
                "role": "user",
                "parts": [
                    {"text": "What?"},
                    {"inline_data": {"data": b"hi", "mime_type": "image/png"}},
                ],
            },
            {
                "role": "model",
                "parts": [{"function_call": {"name": "weather", "args": {"city": "Rome"}}}],
            },
            {
                "role": "user",
                "parts": [{"function_response": {"name": "weather", "response": {"a": 1}}}],
            },
        ],
        config={
            "system_instruction": "Be brief.",
            "tools": [WEATHER],
            "tool_config": {"function_calling_config": {"mode": "ANY"}},
            "temperature": 0.5,
            "max_output_tokens": 64,
            "stop_sequences": ["END"],
            "response_mime_type": "application/json",
            "response_schema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}},
            "automatic_function_calling": {"disable": True},
        },
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
    }
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": '{"a":1}', "tool_call_id": "call_1"},
    ]
    assert sent["tools"][0]["function"]["parameters"]["type"] == "object"
    assert sent["tool_choice"] == "required"
    assert (sent["temperature"], sent["max_tokens"], sent["stop"]) == (0.5, 64, ["END"])
    assert sent["response_format"]["json_schema"]["schema"]["properties"]["a"]["type"] == "integer"


def test_calls_are_parts(google: genai.Client, providers: Providers) -> None:
    """Whole, with their arguments as an object."""

    async def handle(exchange: Exchange) -> None:
        call = {
            "id": "c1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
        }
        await exchange.answer("", tool_calls=[call])

    providers.handlers["openai"] = handle
    made = google.models.generate_content(
        model="openai/m1", contents="Hi", config={"automatic_function_calling": {"disable": True}}
    )

    assert made.function_calls is not None
    assert [(c.id, c.name, c.args) for c in made.function_calls] == [
        ("c1", "weather", {"city": "Rome"})
    ]


def test_a_request_reaches_gemini_as_it_was_sent(gateway: Gateway, providers: Providers) -> None:
    """Unknown keys, parts and tools arrive; the answer comes back with our id and slug."""
    body = {
        "contents": [{"role": "user", "parts": [{"partOfTomorrow": {"a": None}}, {"text": "x"}]}],
        "tools": [{"googleSearch": {}}],
        "generationConfig": {"topK": 3, "futureKey": 1.50},
        "futureKey": {"deep": [1]},
    }
    answer = {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "Hi"}]},
                "finishReason": "STOP",
                "x": 1,
            }
        ],
        "modelVersion": "gemini-x",
        "responseId": "theirs",
        "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2, "candidatesTokenCount": 1},
    }

    async def handle(exchange: Exchange) -> None:
        await exchange.respond(200, json.dumps(answer).encode())

    providers.handlers["gemini"] = handle
    with gateway.client() as http:
        got = http.post("/v1beta/models/gemini/gemini-x:generateContent", json=body).json()
    (exchange,) = providers.requests("gemini")

    assert exchange.json == body
    assert list(exchange.json) == list(body)
    assert got == {**answer, "modelVersion": "gemini/gemini-x", "responseId": got["responseId"]}
    assert got["responseId"].startswith("gen_")


@pytest.mark.parametrize("path", STREAMS)
def test_recorded_streams_are_steps_of_the_client(
    gateway: Gateway, providers: Providers, path: Any
) -> None:
    """Every step has the form that the package declares, and exactly one of translated ones tells the end."""
    recording = load(path)
    steps = steps_of(gateway, providers, recording)

    if recording.model.startswith("gemini/"):
        # As their provider made them, with fields that the package does not declare.
        return
    read = [types.GenerateContentResponse.model_validate(step) for step in steps]
    ended = [step for step in read if step.candidates and step.candidates[0].finish_reason]
    assert len(ended) == 1
    assert read[-1].usage_metadata is not None


@pytest.mark.parametrize(
    "path", named("anthropic-stream-parts-thinking-01", "openai-stream-chat-streaming-01")
)
def test_a_cut_never_looks_like_an_end(gateway: Gateway, providers: Providers, path: Any) -> None:
    """Wherever the provider breaks off, there is no reason for the end, and an error."""
    recording = load(path)
    size = len(recording.body)
    for position in range(size // 10, size - size // 10, size // 7):
        provider = recording.model.partition("/")[0]
        providers.handlers[provider] = play(recording, [recording.body[:position]], cut=True)
        text = stream(gateway, recording.model)
        assert "finishReason" not in text
        assert '"error":' in text


def test_signatures_of_another_provider_go_round_sealed(
    gateway: Gateway, providers: Providers
) -> None:
    """Thinking of Anthropic comes back to it, and never reaches Gemini."""
    recording = load(named("anthropic-stream-parts-thinking-01")[0].values[0])
    steps = steps_of(gateway, providers, recording)
    parts = [part for step in steps for part in step["candidates"][0]["content"]["parts"]]
    assert any("thoughtSignature" in part for part in parts)
    providers.reset()
    body = {
        "contents": [
            *HI["contents"],
            {"role": "model", "parts": parts},
            {"role": "user", "parts": [{"text": "Go on."}]},
        ]
    }
    with gateway.client() as http:
        http.post(f"/v1beta/models/{recording.model}:generateContent", json=body)
        http.post("/v1beta/models/gemini/x:generateContent", json=body)
    (sent,) = [exchange.body for exchange in providers.requests("anthropic")]
    (native,) = [exchange.body for exchange in providers.requests("gemini")]

    assert b'"signature"' in sent
    assert b"bWdzMS4" not in native


def test_vectors_and_models(gateway: Gateway, google: genai.Client, providers: Providers) -> None:
    """Embeddings and the list of models, as the package asks for them."""
    providers.handlers["openai"] = of_openai
    made = google.models.embed_content(model="openai/e1", contents=["a", "bbb"])
    with gateway.client() as http:
        one = http.post(
            "/v1beta/models/openai/e1:embedContent", json={"content": {"parts": [{"text": "ab"}]}}
        )
        listed = http.get("/v1beta/models?pageSize=2").json()

    assert made.embeddings is not None
    assert [item.values for item in made.embeddings] == [[1.0, 0.5], [3.0, 0.5]]
    assert one.json() == {"embedding": {"values": [2.0, 0.5]}}
    assert all(model["name"].startswith("models/") for model in listed["models"])


def test_errors_have_googles_form(
    gateway: Gateway, google: genai.Client, providers: Providers
) -> None:
    """Of providers, of the gateway, and for a wrong key, wherever it stands."""
    providers.handlers["openai"] = status(429)
    with pytest.raises(ClientError) as limited:
        google.models.generate_content(model="openai/m1", contents="Hi")
    url = f"{gateway.url}/v1beta/models/openai/m1:generateContent"
    wrong = httpx.post(f"{url}?key=mk-wrong", json=HI)
    right = httpx.post(url.replace("openai", "spare") + f"?key={KEY}", json=HI)
    with gateway.client() as http:
        unknown = http.post("/v1beta/models/nobody/none:generateContent", json=HI)
        empty = http.post("/v1beta/models/openai/m1:generateContent", json={"contents": []})
        method = http.post("/v1beta/models/openai/m1:predict", json=HI)

    assert limited.value.status == "RESOURCE_EXHAUSTED"
    assert (wrong.status_code, wrong.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert right.status_code == 200
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert (empty.status_code, empty.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert method.status_code == 404
    assert KEY not in gateway.log.read_text()


def stream(gateway: Gateway, model: str) -> str:
    with gateway.client() as http:
        return str(http.post(f"/v1beta/models/{model}:streamGenerateContent?alt=sse", json=HI).text)


def steps_of(gateway: Gateway, providers: Providers, recording: Recording) -> list[dict[str, Any]]:
    providers.handlers[recording.model.partition("/")[0]] = play(recording)
    text = stream(gateway, recording.model)
    steps = [
        json.loads(line.removeprefix("data: "))
        for line in text.splitlines()
        if line.startswith("data: ")
    ]
    if not steps or "error" in steps[-1]:
        pytest.skip(f"the recording is of a failure: {text[-200:]}")
    return steps
