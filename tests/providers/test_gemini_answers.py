"""Answers of Gemini in self-written exchanges: finish reasons, usage, calls, streams with faults, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from maniac_core.domain.chat import Answer, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import (
    Prompt,
    StreamEnd,
    StreamError,
    StreamItem,
    UpstreamFailure,
)
from maniac_core.providers.gemini.dialect import GeminiDialect
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.transport.sse import SSEEvent

CALL = {"functionCall": {"name": "f", "args": {"a": 1}}}


def chunk(*parts: dict[str, Any], reason: str | None = None, **keys: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "responseId": "r1", **keys}


def replay(*chunks: Any) -> tuple[list[StreamItem], int]:
    """Return the items of a stream that ends cleanly, and how many events made no sense."""
    prompt = Prompt(messages=[], parameters={}, stream=True)
    decoder = GeminiDialect().stream_decoder(prompt)
    items: list[StreamItem] = []
    for value in chunks:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        items += decoder.feed(SSEEvent(None, data))
    return items + decoder.finish(), decoder.malformed


def folded(*chunks: Any) -> Accumulator:
    whole = Accumulator()
    whole.add_all(replay(*chunks)[0])
    return whole


def decode(answer: dict[str, Any]) -> Answer:
    return GeminiDialect().decode(json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *[
            (reason, "content_filter")
            for reason in (
                "SAFETY",
                "RECITATION",
                "BLOCKLIST",
                "PROHIBITED_CONTENT",
                "SPII",
                "IMAGE_SAFETY",
                "LANGUAGE",
                "OTHER",
            )
        ],
        ("REASON_OF_LATER_DAYS", "stop"),
    ],
)
def test_finish_reasons(reason: str, finish_reason: str) -> None:
    """Every finish reason has its own, streamed and not; unknown ones are a stop."""
    answer = chunk({"text": "Hi"}, reason=reason)
    assert decode(answer).choices[0].finish_reason == finish_reason
    assert folded(answer).finish_reason == finish_reason


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_spoilt_answer_is_an_error_not_a_stop(reason: str) -> None:
    """A call the model could not write is no answer; another try may do better."""
    items, _ = replay(chunk({"text": "Hi"}), chunk(reason=reason), chunk(reason="STOP"))
    failure = items[-1]
    assert isinstance(failure, StreamError)
    assert failure.failure.retry
    with pytest.raises(UpstreamFailure) as caught:
        decode(chunk(reason=reason))
    assert reason in caught.value.message


def test_stop_after_a_call_means_tool_calls() -> None:
    """STOP is said also after calls, in their chunk or in a later one with an empty text."""
    assert folded(chunk(CALL, reason="STOP")).finish_reason == "tool_calls"
    assert folded(chunk(CALL), chunk({"text": ""}, reason="STOP")).finish_reason == "tool_calls"
    assert folded(chunk(reason="STOP"), chunk(CALL)).finish_reason == "tool_calls"
    assert folded(chunk(CALL, reason="MAX_TOKENS")).finish_reason == "length"
    assert decode(chunk(CALL)).choices[0].finish_reason == "tool_calls"


def test_calls_get_stable_ids_of_their_own() -> None:
    """Parallel calls have different ids, the same in the whole answer and in the stream; given ids are kept."""
    given = {"functionCall": {"name": "g", "id": "own"}}
    signed = {**CALL, "thoughtSignature": "sig"}
    whole = decode(chunk(signed, CALL, given, reason="STOP")).choices[0].message["tool_calls"]
    streamed = folded(chunk(signed), chunk(CALL), chunk(given, reason="STOP")).choices()
    assert streamed[0].message["tool_calls"] == whole
    assert len({call["id"] for call in whole}) == 3
    assert whole[0]["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert "extra_content" not in whole[1]
    assert [call["function"]["arguments"] for call in whole] == ['{"a":1}', '{"a":1}', "{}"]
    assert whole[2]["id"] == "own"
    other = decode(chunk(CALL, responseId="r2")).choices[0].message["tool_calls"]
    assert other[0]["id"] not in {call["id"] for call in whole}


def test_call_without_a_name_is_an_error() -> None:
    """Arguments in pieces are never asked for; a piece without its start cannot be placed."""
    items, _ = replay(chunk({"functionCall": {"args": {}}}))
    assert isinstance(items[-1], StreamError)


def test_thoughts_are_reasoning_and_signatures_of_texts_are_kept() -> None:
    """Thoughts never mix into the content; a signature of a text goes out to be sent back."""
    answer = chunk(
        {"text": "Hm", "thought": True}, {"text": "Hi", "thoughtSignature": "sig"}, reason="STOP"
    )
    message = decode(answer).choices[0].message
    assert message["content"] == "Hi"
    assert message["reasoning"] == "Hm"
    assert message["reasoning_details"] == [
        {"type": "reasoning.encrypted", "data": "sig", "format": "google-gemini-v1", "index": 0}
    ]
    assert folded(answer).choices() == decode(answer).choices


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (
            {
                "promptTokenCount": 29,
                "candidatesTokenCount": 15,
                "thoughtsTokenCount": 804,
                "totalTokenCount": 848,
            },
            Usage(input_tokens=29, output_tokens=15, reasoning_tokens=804),
        ),
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 60,
                "toolUsePromptTokenCount": 7,
                "candidatesTokenCount": 5,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 90},
                    {"modality": "AUDIO", "tokenCount": 10},
                ],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            },
            Usage(
                input_tokens=47,
                cache_read_tokens=60,
                output_tokens=5,
                input_audio_tokens=10,
                output_audio_tokens=5,
            ),
        ),
    ],
)
def test_usage_buckets_do_not_overlap(wire: dict[str, Any], usage: Usage) -> None:
    """The cache is inside the prompt, thinking beside the answer, tools of the provider on top."""
    assert decode(chunk({"text": "Hi"}, reason="STOP", usageMetadata=wire)).usage == usage
    first = {"promptTokenCount": 1}
    streamed = folded(chunk(usageMetadata=first), chunk(reason="STOP", usageMetadata=wire))
    assert streamed.usage == usage
    assert folded(chunk(usageMetadata=wire), chunk(reason="STOP")).usage == usage


def test_refused_prompt_is_a_content_filter() -> None:
    """A prompt that is blocked has feedback instead of candidates."""
    answer = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 4},
        "modelVersion": "gemini-x",
    }
    whole = decode(answer)
    assert whole.choices[0].finish_reason == "content_filter"
    assert whole.choices[0].message["content"] is None
    assert whole.usage == Usage(input_tokens=4)
    streamed = folded(answer)
    assert streamed.choices() == whole.choices
    assert replay(answer)[0][-1] == StreamEnd()


@pytest.mark.parametrize("candidate", [{}, {"content": {}}, {"content": {"parts": []}}])
def test_candidate_may_have_no_parts(candidate: dict[str, Any]) -> None:
    """An answer may be empty, for example when thinking took up the limit."""
    answer = {"candidates": [{**candidate, "finishReason": "MAX_TOKENS"}]}
    choice = decode(answer).choices[0]
    assert (choice.message["content"], choice.finish_reason) == (None, "length")
    assert folded(answer).choices() == [choice]


def test_clean_end_without_a_finish_reason_is_not_whole() -> None:
    """A stream that just stops is cut, and so is an empty one."""
    assert StreamEnd() not in replay(chunk({"text": "Hi"}))[0]
    assert replay()[0] == []
    assert StreamEnd() not in replay({"usageMetadata": {"promptTokenCount": 4}})[0]


def test_stream_is_tolerant_in_what_it_reads() -> None:
    """Unknown parts and keys are ignored; broken events are counted, and the rest still arrives."""
    items, malformed = replay(
        b'{"candidates": [{"content"',
        b"[]",
        b"",
        chunk({"executableCode": {"code": "1"}}, newKey=1),
        chunk({"text": "Hi"}, reason="STOP"),
        b"[DONE]",
    )
    whole = Accumulator()
    whole.add_all(items)
    assert malformed == 2
    assert whole.choices()[0].message["content"] == "Hi"
    assert items[-1] == StreamEnd()


def test_error_inside_a_stream_ends_it() -> None:
    """An error chunk is mapped like an error answer, and nothing after it counts."""
    error = {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}
    items, _ = replay(chunk({"text": "Hi"}), error, chunk(reason="STOP"))
    failure = items[-1]
    assert isinstance(failure, StreamError)
    assert failure.failure.reason == Reason.ERROR_REASON_UPSTREAM_OVERLOADED
    with pytest.raises(UpstreamFailure) as caught:
        decode(error)
    assert caught.value.reason == Reason.ERROR_REASON_UPSTREAM_OVERLOADED


def fail(status: int, name: str, *details: dict[str, Any], message: str = "No") -> UpstreamFailure:
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return GeminiDialect().failure(status, {}, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("status", "name", "message", "reason"),
    [
        (400, "INVALID_ARGUMENT", "Bad value", "UPSTREAM_REJECTED"),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
            "CONTEXT_LENGTH_EXCEEDED",
        ),
        (403, "PERMISSION_DENIED", "No", "UPSTREAM_AUTH"),
        (404, "NOT_FOUND", "models/x is not found", "MODEL_NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED", "Quota", "UPSTREAM_RATE_LIMITED"),
        (500, "INTERNAL", "Oops", "UPSTREAM_ERROR"),
        (503, "UNAVAILABLE", "Overloaded", "UPSTREAM_OVERLOADED"),
        (504, "DEADLINE_EXCEEDED", "Late", "UPSTREAM_TIMEOUT"),
    ],
)
def test_error_answers(status: int, name: str, message: str, reason: str) -> None:
    """Statuses of the provider have their reasons."""
    failure = fail(status, name, message=message)
    assert failure.reason == Reason.Value(f"ERROR_REASON_{reason}")
    assert failure.http_status == status


def test_wrong_key_is_our_fault_although_it_comes_as_a_400() -> None:
    """The caller did nothing wrong; another candidate may answer."""
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    failure = fail(400, "INVALID_ARGUMENT", detail)
    assert failure.reason == Reason.ERROR_REASON_UPSTREAM_AUTH
    assert failure.fall_back
    assert not failure.retry


def test_retry_info_says_when_to_come_back() -> None:
    """The delay stands in the details; a quota of the day is not waited for."""
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}
    failure = fail(429, "RESOURCE_EXHAUSTED", delay)
    assert failure.retry_after_s == 34.4
    assert failure.retry
    quota = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    assert not fail(429, "RESOURCE_EXHAUSTED", quota, delay).retry


def test_error_as_an_array_is_read() -> None:
    """Streams asked for without events answer with an array, errors too."""
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "5s"}
    error = {"code": 429, "message": "Slow", "status": "RESOURCE_EXHAUSTED", "details": [detail]}
    failure = GeminiDialect().failure(429, {}, json.dumps([{"error": error}]).encode())
    assert failure.reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED
    assert failure.retry_after_s == 5


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"{}", b"[]", b'{"candidates":5}'])
def test_body_that_is_no_answer_is_a_failure(body: bytes) -> None:
    """An empty, foreign or broken 200 may be tried again elsewhere."""
    with pytest.raises(UpstreamFailure) as caught:
        GeminiDialect().decode(body)
    assert caught.value.reason == Reason.ERROR_REASON_UPSTREAM_ERROR
    assert caught.value.fall_back
