"""Responses of recursive language models."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class RlmText(msgspec.Struct, kw_only=True):
    """A piece of text."""

    type: Literal["input_text"]
    text: str


class RlmMessage(msgspec.Struct, kw_only=True):
    """A message of text."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[RlmText]


class RlmReasoning(msgspec.Struct, kw_only=True):
    """How hard to think."""

    effort: Literal["low", "medium", "high"] | None = None


class RlmBounds(msgspec.Struct, kw_only=True):
    """Bounds of the recursion."""

    max_depth: Annotated[int, Meta(ge=0)] | None = None
    max_iterations: Annotated[int, Meta(ge=0)] | None = None
    max_budget: Annotated[float, Meta(ge=0)] | None = None
    max_timeout: Annotated[float, Meta(ge=0)] | None = None
    enabled_tools: list[str] | None = None
    tool_config: dict[str, msgspec.Raw] | None = None


class RlmResponseCreate(msgspec.Struct, kw_only=True):
    """A new response."""

    model: str
    input: str | list[RlmMessage]
    background: bool | None = False
    instructions: str | None = None
    metadata: dict[str, str] | None = None
    reasoning: RlmReasoning | None = None
    rlm: RlmBounds | None = None
    store: Annotated[bool | None, Meta(description="Must be false.")] = None
    stream: Annotated[bool | None, Meta(description="Must be false.")] = None
