"""Reasoning: what a request asks for, and the one table of what each effort means on providers that translate it."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.parameters import Given, invalid

# Thinking tokens per effort, where the provider takes a budget.
BUDGET_TOKENS = {
    "minimal": 1024,
    "low": 4096,
    "medium": 10240,
    "high": 24576,
    "xhigh": 32768,
    "max": 32768,
}
# Below this Anthropic refuses a budget.
MIN_BUDGET_TOKENS = 1024

_GEMINI_NAME = re.compile(r"gemini-(\d+)(?:\.(\d+))?-?([\w.-]*)")
_GEMINI_LATEST = re.compile(r"gemini-(?:pro|flash|flash-lite)-latest")
# Gemini 2.5, by variant: the least and the largest budget; a least of 0 turns thinking off.
_GEMINI_BUDGETS = {"pro": (128, 32768), "flash-lite": (512, 24576), "flash": (0, 24576)}
# Levels that a Gemini 3 model lacks -> the nearest one it has. Newer models lack only MINIMAL.
_GEMINI_ALL_LEVELS = re.compile(r"gemini-3(?:\.[156])?-flash")


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """How much thinking a request asks for: an effort, or a number of tokens."""

    effort: str
    """none, minimal, low, medium, high, xhigh or max; with `max_tokens` the effort nearest to it."""
    max_tokens: int | None = None

    @property
    def budget_tokens(self) -> int:
        """The thinking tokens that are meant; 0 for effort none."""
        if self.max_tokens is not None:
            return self.max_tokens
        return BUDGET_TOKENS.get(self.effort, 0)


def take_reasoning(given: Given) -> Reasoning | None:
    """Take `reasoning` and `reasoning_effort` from the parameters; None: the model's default.

    Raises:
        GatewayError: INVALID_VALUE for an unknown effort.
    """
    wanted = given.take("reasoning")
    effort = given.take("reasoning_effort")
    if isinstance(wanted, dict):
        effort = wanted.get("effort") or effort
        tokens = wanted.get("max_tokens")
        if effort is None and isinstance(tokens, int) and tokens > 0:
            near = [name for name, budget in BUDGET_TOKENS.items() if budget >= tokens]
            return Reasoning(effort=near[0] if near else "xhigh", max_tokens=tokens)
        if effort is None and isinstance(wanted.get("enabled"), bool):
            effort = "medium" if wanted["enabled"] else "none"
    if effort is None:
        return None
    if not isinstance(effort, str) or (effort != "none" and effort not in BUDGET_TOKENS):
        raise invalid(
            "reasoning.effort", "must be one of none, minimal, low, medium, high, xhigh and max"
        )
    return Reasoning(effort=effort)


def claude_effort(
    reasoning: Reasoning, *, has_xhigh: bool
) -> Literal["low", "medium", "high", "xhigh", "max"]:
    """Return the value of Anthropic's `output_config.effort`; `none` is the lowest there is."""
    match reasoning.effort:
        case "medium":
            return "medium"
        case "high":
            return "high"
        case "xhigh":
            return "xhigh" if has_xhigh else "max"
        case "max":
            return "max"
        case _:
            return "low"


class GeminiThinking(msgspec.Struct, frozen=True, kw_only=True):
    """How a Gemini model is asked to think."""

    config: JsonObject | None
    """`generationConfig.thinkingConfig`. None: the model cannot be asked."""
    budget_tokens: int = 0
    """The tokens that the budget adds to the limit of output tokens."""
    is_honoured: bool = True
    """False: the model cannot do what was asked, such as not to think."""


def gemini_thinking(model: str, reasoning: Reasoning) -> GeminiThinking:
    """Return what asks a Gemini model for this much thinking: a budget for 2.5, a level from 3 on."""
    name = model.rpartition("/")[2].lower()
    match = _GEMINI_NAME.search(name)
    if match is None and _GEMINI_LATEST.search(name) is None:
        return GeminiThinking(config=None, is_honoured=reasoning.effort == "none")
    version = (int(match[1]), int(match[2] or 0)) if match else (99, 0)
    if version < (2, 5):
        return GeminiThinking(config=None, is_honoured=reasoning.effort == "none")
    if version < (3, 0):
        return _gemini_budget(match[3] if match else "", reasoning)
    return _gemini_level(name, reasoning)


def _gemini_budget(variant: str, reasoning: Reasoning) -> GeminiThinking:
    family = next((family for family in _GEMINI_BUDGETS if variant.startswith(family)), "flash")
    least, largest = _GEMINI_BUDGETS[family]
    if reasoning.effort == "none":
        if family == "pro":
            return GeminiThinking(
                config={"thinkingBudget": least}, budget_tokens=least, is_honoured=False
            )
        return GeminiThinking(config={"thinkingBudget": 0})
    budget = max(least, min(reasoning.budget_tokens, largest))
    return GeminiThinking(
        config={"thinkingBudget": budget, "includeThoughts": True}, budget_tokens=budget
    )


def _gemini_level(name: str, reasoning: Reasoning) -> GeminiThinking:
    level = {"none": "MINIMAL", "xhigh": "HIGH", "max": "HIGH"}.get(
        reasoning.effort, reasoning.effort.upper()
    )
    if level == "MINIMAL" and _GEMINI_ALL_LEVELS.search(name) is None:
        level = "LOW"
    if level == "MEDIUM" and "gemini-3-pro" in name:
        level = "HIGH"
    config: JsonObject = {"thinkingLevel": level}
    if reasoning.effort != "none":
        config["includeThoughts"] = True
    # No level turns thinking off.
    return GeminiThinking(config=config, is_honoured=reasoning.effort != "none")
