"""Reasoning on Claude models: efforts by family, what excludes it, limits, and signatures that go back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.errors import GatewayError
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import Prompt, Target

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SUMMARIZED = {"type": "adaptive", "display": "summarized"}


def encode(
    model: str,
    messages: list[dict[str, Any]] | None = None,
    limit: int | None = None,
    **parameters: Any,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    target = Target(
        provider="anthropic",
        config=ProviderConfig(kind="anthropic", base_url="https://api.anthropic.com"),
        model=model,
        api_key="key",
        max_output_tokens=limit,
    )
    prompt = Prompt(messages=messages or [USER], parameters=parameters, stream=True)
    call = AnthropicDialect().encode(target, prompt)
    return json.loads(call.body), call.dropped


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 1024), ("low", 4096), ("medium", 10240), ("high", 24576), ("xhigh", 32768)],
)
def test_effort_is_a_budget_added_to_the_limit(effort: str, budget: int) -> None:
    """Models up to 4.5 take a number of tokens, which does not eat up the caller's limit."""
    body, dropped = encode("claude-sonnet-4-5", max_tokens=500, reasoning={"effort": effort})
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["max_tokens"] == 500 + budget
    assert dropped == ()


@pytest.mark.parametrize(
    ("limit", "max_tokens", "total", "budget"),
    [
        (64000, None, 64000, 24576),
        (32000, 30000, 32000, 24576),
        (8192, 8000, 8192, 7168),
        (2000, None, 2000, 1024),
    ],
)
def test_sum_is_capped_at_the_models_limit(
    limit: int, max_tokens: int | None, total: int, budget: int
) -> None:
    """The cap leaves the answer at least 1,024 tokens where the model has that many."""
    body, _ = encode(
        "claude-sonnet-4-5", limit=limit, max_tokens=max_tokens, reasoning={"effort": "high"}
    )
    assert body["max_tokens"] == total
    assert body["thinking"]["budget_tokens"] == budget


def test_budget_that_fits_nowhere_is_dropped() -> None:
    """A model that cannot give out 1,024 tokens beside the answer does not think."""
    body, dropped = encode("claude-sonnet-4-5", limit=1024, reasoning={"effort": "low"})
    assert "thinking" not in body
    assert dropped == ("reasoning",)


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent_effort", "dropped"),
    [
        ("claude-3-5-sonnet-latest", "high", None, None, ("reasoning",)),
        ("claude-3-5-sonnet-latest", "none", None, None, ()),
        ("claude-3-7-sonnet-20250219", "none", None, None, ()),
        ("claude-opus-4-6", "minimal", {"type": "adaptive"}, "low", ()),
        ("claude-sonnet-4-6", "xhigh", {"type": "adaptive"}, "max", ()),
        ("claude-opus-4-6", "none", None, None, ()),
        ("claude-opus-4-7", "xhigh", SUMMARIZED, "xhigh", ()),
        ("claude-opus-4-7", "max", SUMMARIZED, "max", ()),
        ("anthropic.claude-opus-4-8", "medium", SUMMARIZED, "medium", ()),
        ("claude-opus-4-8", "none", None, None, ()),
        ("claude-opus-5", "none", {"type": "disabled"}, None, ()),
        ("claude-haiku-5-5", "none", {"type": "disabled"}, None, ()),
        ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None, ()),
        ("claude-opus-5-5", "none", None, "low", ("reasoning",)),
        ("claude-fable-5", "none", None, "low", ("reasoning",)),
        ("claude-fable-5-1", "high", SUMMARIZED, "high", ()),
        ("claude-opus-9", "low", SUMMARIZED, "low", ()),
    ],
)
def test_effort_by_family(
    model: str,
    effort: str,
    thinking: dict[str, Any] | None,
    sent_effort: str | None,
    dropped: tuple[str, ...],
) -> None:
    """Each family is asked in its own way, and what it cannot do is reported."""
    body, reported = encode(model, reasoning={"effort": effort})
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == sent_effort
    assert reported == dropped


def test_other_ways_to_ask() -> None:
    """reasoning_effort and reasoning.max_tokens mean the same; an unknown effort is refused."""
    by_name, _ = encode("claude-sonnet-4-5", reasoning_effort=msgspec.Raw(b'"low"'))
    assert by_name["thinking"]["budget_tokens"] == 4096
    by_tokens, _ = encode("claude-sonnet-4-5", reasoning={"max_tokens": 2000})
    assert by_tokens["thinking"]["budget_tokens"] == 2000
    as_effort, _ = encode("claude-opus-4-6", reasoning={"max_tokens": 5000})
    assert as_effort["output_config"]["effort"] == "medium"
    switched_on, _ = encode("claude-opus-4-6", reasoning={"enabled": True})
    assert switched_on["output_config"]["effort"] == "medium"
    with pytest.raises(GatewayError) as caught:
        encode("claude-sonnet-4-5", reasoning={"effort": "utmost"})
    assert caught.value.param == "reasoning.effort"


def test_thinking_and_output_config_of_the_callers_own_go_through() -> None:
    """What a caller says in Anthropic's own words wins over the effort, and its budget is not added again."""
    body, _ = encode(
        "claude-sonnet-4-5",
        max_tokens=5000,
        reasoning={"effort": "high"},
        thinking=msgspec.Raw(b'{"type":"enabled","budget_tokens":2000}'),
        output_config=msgspec.Raw(b'{"effort":"low"}'),
    )
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert body["max_tokens"] == 5000
    assert body["output_config"] == {"effort": "low"}


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("claude-sonnet-4-5", None),
        ("claude-opus-4-6", None),
        ("claude-opus-5", {"type": "disabled"}),
    ],
)
def test_forced_tool_turns_thinking_off(model: str, thinking: dict[str, Any] | None) -> None:
    """The provider refuses both together; the tool was asked for by name, so thinking gives way."""
    body, dropped = encode(
        model, tools=[TOOL], tool_choice="required", reasoning={"effort": "high"}, temperature=None
    )
    assert body.get("thinking") == thinking
    assert "output_config" not in body
    assert dropped == ("reasoning",)


def test_thinking_drops_sampling() -> None:
    """With thinking on the provider refuses other temperatures."""
    body, dropped = encode(
        "claude-sonnet-4-5", reasoning={"effort": "low"}, temperature=0.2, top_p=0.5
    )
    assert body.keys().isdisjoint({"temperature", "top_p"})
    assert dropped == ("temperature", "top_p")


def detail(**keys: Any) -> dict[str, Any]:
    return {"format": "anthropic-claude-v1", "index": 0, **keys}


def history(*details: dict[str, Any]) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    return [
        USER,
        {
            "role": "assistant",
            "content": "Wait.",
            "reasoning_details": list(details),
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]


SIGNED = detail(type="reasoning.text", text="Hm.", signature="s==")
REDACTED = detail(type="reasoning.encrypted", data="opaque")


def test_signed_and_redacted_thinking_goes_back_unchanged_and_first() -> None:
    """Blocks return verbatim in front of text and calls; a signature without text keeps its block."""
    silent = {"type": "reasoning.text", "signature": "t=="}
    body, dropped = encode(
        "claude-sonnet-4-5", history(SIGNED, REDACTED, silent), reasoning={"effort": "low"}
    )
    assert [dict(block) for block in body["messages"][1]["content"]][:4] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s=="},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "thinking", "thinking": "", "signature": "t=="},
        {"type": "text", "text": "Wait."},
    ]
    assert body["thinking"]["type"] == "enabled"
    assert dropped == ()


MARK = "anthropic-claude-v1"


@pytest.mark.parametrize(
    "details",
    [
        (
            {"type": "reasoning.text", "text": "Hm", "format": MARK, "index": 0},
            {"type": "reasoning.text", "text": ".", "index": 0},
            {"type": "reasoning.text", "signature": "s==", "index": 0},
            {"type": "reasoning.encrypted", "data": "opaque", "format": MARK, "index": 1},
        ),
        (
            {**SIGNED, "format": 3 * MARK, "index": 0},
            {**REDACTED, "format": MARK, "index": 1},
        ),
        (
            {"type": "reasoning.text", "text": "Hm"},
            {"type": "reasoning.text", "text": ".", "signature": "s=="},
            {"type": "reasoning.encrypted", "data": "opaque"},
        ),
    ],
    ids=["pieces as streamed", "name added up", "pieces without index"],
)
def test_thinking_goes_back_however_the_client_put_it_together(
    details: tuple[dict[str, Any], ...],
) -> None:
    """Clients collect the pieces of a stream in a list, or add up their texts, the format's name among them."""
    body, dropped = encode("claude-sonnet-4-5", history(*details), reasoning={"effort": "low"})
    assert [dict(block) for block in body["messages"][1]["content"]][:2] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s=="},
        {"type": "redacted_thinking", "data": "opaque"},
    ]
    assert dropped == ()


@pytest.mark.parametrize(
    "details",
    [
        (),
        (detail(type="reasoning.text", text="No signature."),),
        ({**REDACTED, "format": "google-gemini-v1"},),
    ],
)
def test_tool_loop_without_signatures_turns_thinking_off(
    details: tuple[dict[str, Any], ...],
) -> None:
    """Thinking cannot begin inside a tool loop; blocks that are unsigned or another provider's are not sent."""
    body, dropped = encode("claude-sonnet-4-5", history(*details), reasoning={"effort": "low"})
    kinds = [block["type"] for block in body["messages"][1]["content"]]
    assert kinds == ["text", "tool_use"]
    assert "thinking" not in body
    assert dropped == ("reasoning",)


def test_finished_tool_loop_does_not_matter() -> None:
    """After the next message of the user thinking may begin; adaptive thinking may at any time."""
    body, dropped = encode("claude-sonnet-4-5", [*history(), USER], reasoning={"effort": "low"})
    assert body["thinking"]["type"] == "enabled"
    adaptive, dropped_too = encode("claude-opus-4-6", history(), reasoning={"effort": "low"})
    assert adaptive["thinking"] == {"type": "adaptive"}
    assert dropped == dropped_too == ()
