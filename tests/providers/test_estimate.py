"""Estimated token counts: near the truth for text, and never blown up by media."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from maniac_core.domain.chat import Choice
from maniac_core.providers.openai.dialect import OpenAIDialect
from maniac_core.providers.pricing.estimate import (
    FILE_TOKENS,
    IMAGE_TOKENS,
    LOW_DETAIL_IMAGE_TOKENS,
    MESSAGE_TOKENS,
    estimate_answer_tokens,
    estimate_prompt_tokens,
)


def prompt(*contents: Any, **parameters: Any) -> int:
    messages = [{"role": "user", "content": content} for content in contents]
    return estimate_prompt_tokens(messages, parameters) - len(messages) * MESSAGE_TOKENS


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本語の文章", 5)]
)
def test_text_counts_a_token_per_four_bytes(text: str, tokens: int) -> None:
    """Bytes, not characters, are counted, and rounded up; in prompts and in answers."""
    choice = Choice(index=0, message={"role": "assistant", "content": text}, finish_reason="stop")
    assert prompt(text) == tokens
    assert estimate_answer_tokens([choice]) == tokens


def test_prompt_adds_messages_parts_calls_and_tools() -> None:
    """Everything that the model reads counts: parts, earlier calls, tools and schemas."""
    assert prompt(None) == 0
    assert prompt([{"type": "text", "text": "abcd"}, {"type": "text", "text": "abcd"}]) == 2
    tools = [{"type": "function", "function": {"name": "f", "parameters": msgspec.Raw(b"{}")}}]
    assert prompt("", tools=tools) == pytest.approx(len(msgspec.json.encode(tools)) / 4, abs=1)
    assert prompt("", temperature=1.0, user="x" * 400) == 0
    call = {"id": "c", "function": {"name": "f", "arguments": "x" * 400}}
    with_call = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    assert estimate_prompt_tokens(with_call, {}) > 100


def test_media_count_a_fixed_number() -> None:
    """A data URL is not text: its length does not matter."""
    url = "data:image/png;base64," + "A" * 1_000_000
    assert prompt([{"type": "image_url", "image_url": {"url": url}}]) == IMAGE_TOKENS
    low = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    assert prompt([low]) == LOW_DETAIL_IMAGE_TOKENS
    assert prompt([{"type": "file", "file": {"file_data": url}}]) == FILE_TOKENS


def test_answer_adds_text_reasoning_and_calls_of_all_choices() -> None:
    """Nothing generated is 0; everything generated counts."""
    assert estimate_answer_tokens([]) == 0
    empty = Choice(index=0, message={"role": "assistant", "content": None}, finish_reason=None)
    assert estimate_answer_tokens([empty]) == 0
    message = {"role": "assistant", "content": "abcd", "reasoning": "abcd", "refusal": "abcd"}
    choice = Choice(index=0, message=message, finish_reason="stop")
    assert estimate_answer_tokens([choice, choice]) == 6


@pytest.mark.recordings(
    "openai-unary-chat-basic-01",
    "openai-unary-chat-multiturn-01",
    "openai-unary-chat-openai-agents-python-01",
    "openai-unary-*-tool-calls-with-content-0?",
    "openai-unary-chat-web-search-01",
)
def test_estimate_is_near_what_the_provider_counted(recording: Any) -> None:
    """Prompts of text and tools come out within 40 % of the real count."""
    request = recording.request["body"]
    usage = OpenAIDialect().decode(recording.body).usage
    assert usage is not None
    estimated = estimate_prompt_tokens(request["messages"], request)
    assert estimated == pytest.approx(usage.prompt_tokens, rel=0.4)
