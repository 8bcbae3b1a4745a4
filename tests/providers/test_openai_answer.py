"""Whole answers on OpenAI's wire, self-written, with the habits of those who speak it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from maniac_core.domain.chat import Answer, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.openai.dialect import OpenAIDialect


def decode(value: Any) -> Answer:
    return OpenAIDialect().decode(msgspec.json.encode(value))


def answer(message: dict[str, Any], finish: str | None = "stop", **keys: Any) -> Answer:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return decode({"choices": [choice], "model": "m", **keys})


def usage(**counts: Any) -> Usage | None:
    return answer({"content": "x"}, usage=counts).usage


def test_message_keeps_open_keys_and_loses_empty_ones() -> None:
    """Audio and annotations pass, nulls and empty lists go, `content` stays even as null."""
    audio = {"id": "a", "data": "AAAA", "transcript": "beep"}
    got = answer(
        {"role": "assistant", "content": None, "audio": audio, "refusal": None, "annotations": []}
    )
    assert got.choices[0].message == {"role": "assistant", "content": None, "audio": audio}
    assert got.upstream_model == "m"


@pytest.mark.parametrize(
    "given",
    [
        {"content": "x", "reasoning": "t"},
        {"content": "x", "reasoning_content": "t"},
        {"content": "x", "reasoning": "t", "reasoning_content": "t"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                {"type": "text", "text": "x"},
            ]
        },
    ],
)
def test_reasoning_comes_under_one_name(given: dict[str, Any]) -> None:
    """Whatever a server calls its thinking, it comes out as `reasoning`."""
    message = answer(given).choices[0].message
    assert message == {"role": "assistant", "content": "x", "reasoning": "t"}


def test_tool_calls_are_made_regular() -> None:
    """Ids are made up where they are missing, arguments are text and never empty, further keys stay."""
    calls = [
        {"index": 0, "function": {"name": "f", "arguments": ""}},
        {"id": "c2", "function": {"name": "g", "arguments": {"a": 1}}, "extra_content": {"k": 1}},
        {"id": "c3", "type": "function", "function": {"name": "h", "arguments": '{"b": 2}'}},
    ]
    message = answer({"content": None, "tool_calls": calls}, "tool_calls").choices[0].message
    first, second, third = message["tool_calls"]
    assert first["id"].startswith("call_")
    assert first["function"] == {"name": "f", "arguments": "{}"}
    assert second == {
        "id": "c2",
        "type": "function",
        "function": {"name": "g", "arguments": '{"a":1}'},
        "extra_content": {"k": 1},
    }
    assert third["function"]["arguments"] == '{"b": 2}'


def test_function_call_becomes_a_tool_call() -> None:
    """The old form comes out as the new one, with its finish reason."""
    got = answer(
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"
    )
    (choice,) = got.choices
    assert choice.finish_reason == "tool_calls"
    assert "function_call" not in choice.message
    assert choice.message["tool_calls"][0]["function"]["name"] == "f"


def test_missing_finish_reason_follows_from_the_message() -> None:
    """A whole answer without one is a stop, or tool_calls when there are calls."""
    calls = [{"id": "c", "function": {"name": "f"}}]
    assert answer({"content": "x"}, None).choices[0].finish_reason == "stop"
    assert answer({"content": "x"}, "").choices[0].finish_reason == "stop"
    assert answer({"tool_calls": calls}, None).choices[0].finish_reason == "tool_calls"
    assert answer({"tool_calls": calls}, "").choices[0].finish_reason == "tool_calls"


def test_choices_without_index_are_counted() -> None:
    """Positions stand in for missing indexes."""
    got = decode({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]})
    assert [choice.index for choice in got.choices] == [0, 1]


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        (b"", Reason.ERROR_REASON_UPSTREAM_ERROR, "an empty body"),
        (b"  <!DOCTYPE html><title>x</title>", Reason.ERROR_REASON_UPSTREAM_ERROR, "a web page"),
        (b"ok", Reason.ERROR_REASON_UPSTREAM_ERROR, "not a chat completion"),
        (b"[1]", Reason.ERROR_REASON_UPSTREAM_ERROR, "not a chat completion"),
        (b'{"choices":[]}', Reason.ERROR_REASON_UPSTREAM_ERROR, "not a chat completion"),
        (b'{"choices":[{"message":{"con', Reason.ERROR_REASON_UPSTREAM_ERROR, "not a chat"),
        (
            b'{"choices":[{"message":{"content":"\xff"}}]}',
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "not",
        ),
        (b"[" * 100_000, Reason.ERROR_REASON_UPSTREAM_ERROR, "not a chat completion"),
        (
            b'{"error":{"code":402,"message":"Insufficient credits"}}',
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "no credit left",
        ),
        (
            b'{"choices":[{"message":{"content":""},"error":{"code":429,"message":"later"}}]}',
            Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED,
            "later",
        ),
        (
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"insufficient_system_resource"}]}',
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
            "broke its answer off",
        ),
        (
            b'{"object":"error","message":"too long","type":"BadRequestError","code":400}',
            Reason.ERROR_REASON_UPSTREAM_REJECTED,
            "too long",
        ),
    ],
)
def test_bodies_of_a_200_that_are_no_answer_fail(
    body: bytes, reason: Reason.ValueType, message: str
) -> None:
    """Empty, cut, foreign and erroneous bodies are failures with a short, clean message."""
    with pytest.raises(UpstreamFailure) as caught:
        OpenAIDialect().decode(body)
    assert caught.value.reason == reason
    assert message in caught.value.message
    assert caught.value.http_status == 200
    assert "<" not in caught.value.message


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 4}, Usage(input_tokens=10, output_tokens=4)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "total_tokens": 19,
                "prompt_tokens_details": {
                    "cached_tokens": 6,
                    "cache_write_tokens": 3,
                    "audio_tokens": 0,
                },
                "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": None},
            },
            Usage(
                input_tokens=1,
                cache_read_tokens=6,
                cache_write_tokens=3,
                output_tokens=4,
                reasoning_tokens=5,
                input_audio_tokens=0,
            ),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 8},
            Usage(input_tokens=2, cache_read_tokens=8, output_tokens=2),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 4},
            Usage(input_tokens=6, cache_read_tokens=4, output_tokens=2),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "total_tokens": 42,
                "completion_tokens_details": {"reasoning_tokens": 30},
                "cost_in_usd_ticks": 12_345_678,
            },
            Usage(input_tokens=10, output_tokens=2, reasoning_tokens=30, cost_nano_usd=1_234_568),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 17,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(input_tokens=10, output_tokens=5, reasoning_tokens=2),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.00000105},
            Usage(input_tokens=10, output_tokens=2, cost_nano_usd=1_050),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0},
            Usage(input_tokens=10, output_tokens=2, cost_nano_usd=0),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "cost": 0.000001,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.00002},
            },
            Usage(input_tokens=10, output_tokens=2, cost_nano_usd=21_000),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "cost": {"total_cost": 0.006}},
            Usage(input_tokens=10, output_tokens=2, cost_nano_usd=6_000_000),
        ),
        (
            {"prompt_tokens": 10.0, "completion_tokens": "4", "total_tokens": 14, "cost": "?"},
            Usage(input_tokens=10, output_tokens=4),
        ),
        ({"prompt_tokens": 10, "total_tokens": 14}, Usage(input_tokens=10, output_tokens=4)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 9},
            },
            Usage(cache_read_tokens=5, output_tokens=1),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None),
        ({"prompt_tokens": "many"}, None),
        ({}, None),
    ],
    ids=[
        "plain",
        "openai-details",
        "deepseek",
        "moonshot",
        "xai",
        "xai-short-thought",
        "openrouter",
        "openrouter-free",
        "openrouter-own-key",
        "perplexity",
        "loose-types",
        "total-only",
        "more-cached-than-prompt",
        "zeros",
        "unreadable",
        "empty",
    ],
)
def test_usage_comes_in_disjoint_buckets(counts: dict[str, Any], expected: Usage | None) -> None:
    """Cached tokens and reasoning are counted once, however the provider counts them."""
    assert usage(**counts) == expected


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("priority", "priority"), ("flex", "flex"), ("default", None), (None, None)],
)
def test_service_tier_with_its_own_price_is_kept(tier: str | None, expected: str | None) -> None:
    """The class of service counts for the price when it is not the standard one."""
    counts = {"prompt_tokens": 1, "completion_tokens": 1}
    got = answer({"content": "x"}, usage=counts, service_tier=tier)
    assert got.usage is not None
    assert got.usage.service_tier == expected
