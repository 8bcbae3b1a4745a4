"""Recorded exchanges with Gemini and Vertex AI through the dialect: whole, chopped, cut, and their requests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import Prompt, StreamEnd, StreamItem, StreamModel, Target
from maniac_core.providers.gemini.dialect import GeminiDialect
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEDecoder

STREAMS = pytest.mark.recordings("gemini-stream-*", "vertex-stream-*")
ANSWERS = pytest.mark.recordings("vertex-unary-*", without="*-http4*")

_PROMPT = Prompt(messages=[], parameters={}, stream=True)
# The clients of some recordings had asked for numbers; a gateway gets names.
_FINISH_NAMES = {1: "STOP", 2: "MAX_TOKENS"}


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    """The chunks, by means that share nothing with the decoders."""
    if body.lstrip().startswith(b"["):
        chunks: list[dict[str, Any]] = json.loads(body)
        return chunks
    lines = body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def stream_of(body: bytes) -> bytes:
    """The event stream; recordings made without alt=sse are arrays."""
    if not body.lstrip().startswith(b"["):
        return body
    events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks_of(body)]
    return "".join(events).encode()


def replay(pieces: Iterable[bytes], *, is_clean: bool = True) -> list[StreamItem]:
    sse, decoder = SSEDecoder(), GeminiDialect().stream_decoder(_PROMPT)
    items: list[StreamItem] = []
    for piece in pieces:
        for event in sse.feed(piece):
            items += decoder.feed(event)
    for event in sse.finish():
        items += decoder.feed(event)
    assert decoder.malformed == 0
    return items + decoder.finish() if is_clean else items


def accumulated(items: Iterable[StreamItem]) -> Accumulator:
    whole = Accumulator()
    whole.add_all(items)
    return whole


def merged(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer as the provider would have sent it whole."""
    parts: list[dict[str, Any]] = []
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    for chunk in chunks:
        for part in chunk["candidates"][0].get("content", {}).get("parts", ()):
            last = parts[-1] if parts else {}
            if "text" in part and "text" in last and last.get("thought") == part.get("thought"):
                last.update({**part, "text": last["text"] + part["text"]})
            else:
                parts.append(dict(part))
        reason = chunk["candidates"][0].get("finishReason")
        if reason:
            candidate["finishReason"] = reason
    return {**chunks[-1], "candidates": [candidate]}


@STREAMS
def test_recorded_stream_adds_up_to_its_answer_sent_whole(recording: Any) -> None:
    """Text, calls with signatures, thoughts, finish reason, model and usage are those of the unstreamed form."""
    items = replay([stream_of(recording.body)])
    chunks = chunks_of(recording.body)
    whole = GeminiDialect().decode(json.dumps(merged(chunks)).encode())
    streamed = accumulated(items)
    choice = whole.choices[0]

    assert items[-1] == StreamEnd()
    assert streamed.choices() == whole.choices
    assert streamed.usage == whole.usage
    assert [item.name for item in items if isinstance(item, StreamModel)] == [whole.upstream_model]
    parts = [
        part for chunk in chunks for part in chunk["candidates"][0]["content"].get("parts", ())
    ]
    texts = [part["text"] for part in parts if "text" in part and not part.get("thought")]
    assert (choice.message["content"] or "") == "".join(texts)
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    sent_calls = choice.message.get("tool_calls", [])
    assert [json.loads(call["function"]["arguments"]) for call in sent_calls] == [
        call["args"] for call in calls
    ]


@STREAMS
def test_recorded_usage_adds_up_to_the_provider_total(recording: Any) -> None:
    """The last count wins, thinking is in the answer, and the sum is what the provider says."""
    wire = chunks_of(recording.body)[-1]["usageMetadata"]
    usage = accumulated(replay([stream_of(recording.body)])).usage
    assert usage is not None
    assert usage.total_tokens == wire["totalTokenCount"]
    assert usage.prompt_tokens == wire["promptTokenCount"]
    assert usage.reasoning_tokens == wire.get("thoughtsTokenCount", 0)


@STREAMS
def test_recorded_stream_is_the_same_however_it_is_chopped(recording: Any) -> None:
    """Two pieces, parted at any offset, and single bytes give the items of the whole."""
    body = stream_of(recording.body)
    whole = replay([body])
    assert replay([body[at : at + 1] for at in range(len(body))]) == whole
    for at in range(len(body) + 1):
        assert replay([body[:at], body[at:]]) == whole, at


@STREAMS
def test_recorded_stream_that_is_cut_never_looks_whole(recording: Any) -> None:
    """Nothing but a clean end makes it whole, and only once the finish reason has arrived."""
    body = stream_of(recording.body)
    complete = accumulated(replay([body]))
    finished = body.rindex(b'"finishReason"')
    for at in range(len(body) + 1):
        assert StreamEnd() not in replay([body[:at]], is_clean=False), at
        items = replay([body[:at]])
        if StreamEnd() in items:
            assert at > finished
            assert accumulated(items).choices() == complete.choices()
            assert accumulated(items).usage == complete.usage
        else:
            assert not any(item.finish_reason for item in items if isinstance(item, ChoiceDelta))


@ANSWERS
def test_recorded_answer_keeps_what_the_provider_said(recording: Any) -> None:
    """Text, calls, signatures, finish reason and totals of whole answers survive."""
    body = json.loads(recording.body)
    for candidate in body["candidates"]:
        reason = candidate["finishReason"]
        candidate["finishReason"] = _FINISH_NAMES.get(reason, reason)
    answer = GeminiDialect().decode(json.dumps(body).encode())

    assert answer.upstream_model == body["modelVersion"]
    assert isinstance(answer.usage, Usage)
    assert answer.usage.total_tokens == body["usageMetadata"]["totalTokenCount"]
    for choice, candidate in zip(answer.choices, body["candidates"], strict=True):
        parts = candidate["content"].get("parts", [])
        calls = [part for part in parts if "functionCall" in part]
        texts = "".join(part.get("text", "") for part in parts)
        assert choice.message["content"] == (texts or None)
        assert [call["function"]["name"] for call in choice.message.get("tool_calls", [])] == [
            part["functionCall"]["name"] for part in calls
        ]
        for call, part in zip(choice.message.get("tool_calls", []), calls, strict=True):
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            assert signature == part.get("thoughtSignature")
        expected = {"STOP": "tool_calls" if calls else "stop", "MAX_TOKENS": "length"}
        assert choice.finish_reason == expected[candidate["finishReason"]]


@pytest.mark.recordings("vertex-unary-*-http4*")
def test_recorded_error_says_what_was_wrong(recording: Any) -> None:
    """Errors keep the provider's sentence, and only a missing model falls back."""
    failure = GeminiDialect().failure(recording.status, recording.headers, recording.body)
    assert failure.message == json.loads(recording.body)["error"]["message"]
    if recording.status == 404:
        assert failure.reason == Reason.ERROR_REASON_MODEL_NOT_FOUND
        assert failure.fall_back
    else:
        assert failure.reason == Reason.ERROR_REASON_UPSTREAM_REJECTED
        assert not failure.fall_back


def encoded(recording: Any, messages: list[dict[str, Any]], **parameters: Any) -> dict[str, Any]:
    """Encode a request in OpenAI's form for the recorded model."""
    model = recording.request["path"].rpartition("/")[2].partition(":")[0]
    target = Target(
        provider="gemini",
        config=ProviderConfig(kind="gemini", base_url="https://host"),
        model=model,
        api_key="key",
    )
    prompt = Prompt(messages=messages, parameters=parameters, stream=True)
    call = GeminiDialect().encode(target, prompt)
    assert call.dropped == ()
    body: dict[str, Any] = json.loads(call.body)
    return body


def in_camel_case(node: Any) -> Any:
    """The wire takes snake case as well; some recorded clients used it. Nulls carry nothing."""
    names = {"function_call": "functionCall", "function_response": "functionResponse"}
    if isinstance(node, dict):
        return {
            names.get(key, key): in_camel_case(value)
            for key, value in node.items()
            if value is not None
        }
    return [in_camel_case(item) for item in node] if isinstance(node, list) else node


@pytest.mark.recordings("gemini-stream-tools-02", "gemini-stream-tools-03")
def test_recorded_tool_chain_survives_the_round_trip(recording: Any) -> None:
    """Calls with ids and signatures and their results go back as the provider wants them."""
    sent = recording.request["body"]
    messages: list[dict[str, Any]] = []
    for content in in_camel_case(sent["contents"]):
        part = content["parts"][0]
        if "functionCall" in part:
            call = part["functionCall"]
            extra = {}
            if "thoughtSignature" in part:
                google = {"thought_signature": part["thoughtSignature"]}
                extra = {"extra_content": {"google": google}}
            function = {"name": call["name"], "arguments": json.dumps(call["args"])}
            calls = [{"id": call["id"], "type": "function", "function": function, **extra}]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        elif "functionResponse" in part:
            response = part["functionResponse"]
            text = response["response"]["output"]
            messages.append({"role": "tool", "tool_call_id": response["id"], "content": text})
        else:
            messages.append({"role": "user", "content": part["text"]})
    declaration = sent["tools"][0]["functionDeclarations"][0]
    function = {"name": declaration["name"], "parameters": declaration["parameters"]}
    body = encoded(recording, messages, tools=[{"type": "function", "function": function}])
    assert body["contents"] == in_camel_case(sent["contents"])
    (tool,) = body["tools"][0]["functionDeclarations"]
    assert tool == {"name": declaration["name"]}


@pytest.mark.recordings(
    "gemini-stream-nested-model-*", "gemini-stream-prompt-with-pydantic*", without="*optional*"
)
def test_recorded_schema_request_is_what_json_schema_becomes(recording: Any) -> None:
    """A schema that fits the subset arrives as it is, beside settings in the provider's own words."""
    sent = recording.request["body"]
    config = sent["generationConfig"]
    form = {"name": "n", "schema": config["response_schema"]}
    messages = [{"role": "user", "content": sent["contents"][0]["parts"][0]["text"]}]
    body = encoded(
        recording,
        messages,
        response_format={"type": "json_schema", "json_schema": form},
        safetySettings=sent["safetySettings"],
        generationConfig={"thinkingConfig": config["thinkingConfig"]},
    )
    assert body == {
        "contents": sent["contents"],
        "safetySettings": sent["safetySettings"],
        "generationConfig": {
            "responseMimeType": config["response_mime_type"],
            "responseSchema": config["response_schema"],
            "thinkingConfig": config["thinkingConfig"],
        },
    }


@pytest.mark.recordings(
    "vertex-unary-generate-content-extra-params-01", "vertex-unary-generate-content-all-events-01"
)
def test_recorded_parameters_are_what_openai_ones_become(recording: Any) -> None:
    """Sampling, limit, stop, seed, penalties and the system instruction have their places."""
    sent = recording.request["body"]
    config = sent.get("generationConfig", {})
    names = {
        "temperature": "temperature",
        "top_p": "topP",
        "top_k": "topK",
        "max_tokens": "maxOutputTokens",
        "stop": "stopSequences",
        "presence_penalty": "presencePenalty",
        "frequency_penalty": "frequencyPenalty",
        "seed": "seed",
    }
    parameters = {name: config[own] for name, own in names.items() if own in config}
    roles = {"user": "user", "model": "assistant"}
    messages = [
        {"role": roles[content["role"]], "content": content["parts"][0]["text"]}
        for content in sent["contents"]
    ]
    if "systemInstruction" in sent:
        text = sent["systemInstruction"]["parts"][0]["text"]
        messages.append({"role": "system", "content": text})
    body = encoded(recording, messages, **parameters)
    assert body["contents"] == sent["contents"]
    assert body.get("generationConfig", {}) == config
    wanted = sent.get("systemInstruction", {}).get("parts")
    assert body.get("systemInstruction", {}).get("parts") == wanted


@pytest.mark.recordings("vertex-unary-generate-content-with-files-01")
def test_recorded_files_are_what_image_parts_become(recording: Any) -> None:
    """Images by https are passed by URL with their type, data URLs inline."""
    contents = recording.request["body"]["contents"]
    text, file, inline = contents[0]["parts"]
    data = inline["inlineData"]
    urls = [
        file["fileData"]["fileUri"],
        f"data:{data['mimeType']};base64,{data['data']}",
    ]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    parts = [{"type": "text", "text": text["text"]}, *images]
    body = encoded(recording, [{"role": "user", "content": parts}])
    assert body["contents"] == contents
