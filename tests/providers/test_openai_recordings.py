"""Recorded exchanges with OpenAI and Azure through the decoders, whole, chopped and cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from cuts import offsets
from maniac_core.domain.chat import ChoiceDelta, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import Prompt, StreamEnd, StreamItem, StreamModel
from maniac_core.providers.openai.dialect import OpenAIDialect
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEDecoder

STREAMS = pytest.mark.recordings("openai-stream-*", "azure-stream-*")
ANSWERS = pytest.mark.recordings("openai-unary-*", "azure-unary-*", without="*-http4*")
ERRORS = pytest.mark.recordings("openai-unary-*-http4*")

_PROMPT = Prompt(messages=[], parameters={}, stream=True)


def replay(pieces: Iterable[bytes]) -> list[StreamItem]:
    sse, decoder = SSEDecoder(), OpenAIDialect().stream_decoder(_PROMPT)
    items: list[StreamItem] = []
    for piece in pieces:
        for event in sse.feed(piece):
            items += decoder.feed(event)
    for event in sse.finish():
        items += decoder.feed(event)
    return items + decoder.finish()


def accumulated(items: Iterable[StreamItem]) -> Accumulator:
    whole = Accumulator()
    whole.add_all(items)
    return whole


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    """The chunks, by means that share nothing with the decoders."""
    lines = body.decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


@STREAMS
def test_recorded_stream_concatenates_to_its_answer(recording: Any) -> None:
    """Text, tool calls and finish reasons per choice are what the chunks add up to."""
    expected: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(recording.body):
        for choice in chunk["choices"]:
            whole = expected.setdefault(
                choice["index"], {"text": "", "calls": {}, "finish_reason": None}
            )
            whole["text"] += choice["delta"].get("content") or ""
            whole["finish_reason"] = choice["finish_reason"] or whole["finish_reason"]
            for call in choice["delta"].get("tool_calls") or ():
                known = whole["calls"].setdefault(call["index"], {"arguments": ""})
                known["arguments"] += call["function"].get("arguments") or ""
                known["name"] = call["function"].get("name") or known.get("name")
                known["id"] = call.get("id") or known.get("id")

    items = replay([recording.body])

    assert items[-1] == StreamEnd()
    choices = accumulated(items).choices()
    assert {choice.index for choice in choices} == expected.keys()
    for choice in choices:
        wanted = expected[choice.index]
        assert (choice.message["content"] or "") == wanted["text"]
        assert choice.finish_reason == wanted["finish_reason"]
        calls = choice.message.get("tool_calls", [])
        assert [call["id"] for call in calls] == [call["id"] for call in wanted["calls"].values()]
        assert [call["function"] for call in calls] == [
            {"name": call["name"], "arguments": call["arguments"]}
            for call in wanted["calls"].values()
        ]


@STREAMS
def test_recorded_stream_reports_model_and_usage(recording: Any) -> None:
    """The model is named once, and the usage adds up to the provider's total if it sent one."""
    chunks = chunks_of(recording.body)
    items = replay([recording.body])
    assert [item.name for item in items if isinstance(item, StreamModel)] == [chunks[0]["model"]]
    reported = next((chunk["usage"] for chunk in chunks if chunk.get("usage")), None)
    usages = [item for item in items if isinstance(item, Usage)]
    if reported is None:
        assert usages == []
    else:
        assert [usage.total_tokens for usage in usages] == [reported["total_tokens"]]


@STREAMS
def test_recorded_stream_is_the_same_however_it_is_chopped(recording: Any) -> None:
    """Two pieces, parted at any offset, and single bytes give the items of the whole."""
    body = recording.body
    whole = replay([body])
    assert replay([body[at : at + 1] for at in range(len(body))]) == whole
    for at in offsets(body):
        assert replay([body[:at], body[at:]]) == whole, at


@STREAMS
def test_recorded_stream_that_is_cut_never_looks_whole(recording: Any) -> None:
    """A prefix that ends well holds every choice with all its text and its finish reason."""
    body = recording.body
    complete = accumulated(replay([body])).choices()
    ended = 0
    for at in offsets(body):
        items = replay([body[:at]])
        if StreamEnd() in items:
            ended += 1
            assert accumulated(items).choices() == complete, at
        else:
            assert not any(item.finish_reason for item in items if isinstance(item, ChoiceDelta)), (
                at
            )
    assert 0 < ended < len(body) / 2


@ANSWERS
def test_recorded_answer_keeps_what_the_provider_said(recording: Any) -> None:
    """Text, tool calls, audio, finish reasons, model and token totals survive; nulls do not."""
    body = json.loads(recording.body)
    answer = OpenAIDialect().decode(recording.body)
    assert answer.upstream_model == body["model"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == body["usage"]["total_tokens"]
    assert answer.usage.completion_tokens == body["usage"]["completion_tokens"]
    for choice, wanted in zip(answer.choices, body["choices"], strict=True):
        message = {
            key: value
            for key, value in wanted["message"].items()
            if key == "content" or value not in (None, [])
        }
        message.setdefault("content", None)
        assert choice.message == message
        assert (choice.index, choice.finish_reason) == (wanted["index"], wanted["finish_reason"])


@ERRORS
def test_recorded_error_says_what_was_wrong(recording: Any) -> None:
    """Errors keep the provider's sentence and the parameter, and only a missing model falls back."""
    error = json.loads(recording.body)["error"]
    failure = OpenAIDialect().failure(recording.status, recording.headers, recording.body)
    assert failure.http_status == recording.status
    assert failure.message == error["message"]
    assert failure.param == error["param"]
    assert not failure.retry
    if recording.status == 404:
        assert failure.reason == Reason.ERROR_REASON_MODEL_NOT_FOUND
        assert failure.fall_back
    else:
        assert failure.reason == Reason.ERROR_REASON_UPSTREAM_REJECTED
        assert not failure.fall_back
