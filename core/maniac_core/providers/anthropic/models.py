"""The families of Claude models: the differences that decide how a request is encoded."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

_NEW_NAME = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d+)(?:[-.](\d{1,2}))?(?!\d)")
_OLD_NAME = re.compile(r"claude-(\d)(?:[-.](\d))?(?:-(opus|sonnet|haiku))?(?!\d)")


class ClaudeFamily(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of a model."""

    thinking: Literal["none", "budget", "effort"]
    """No thinking; a number of tokens; or an effort with adaptive thinking."""
    off: Literal["omit", "disabled", "between_tools", "never"] = "omit"
    """How thinking is turned off: by leaving the field out, by this type, or not at all."""
    has_xhigh: bool = False
    takes_sampling: bool = True
    """Whether temperature, top_p and top_k may differ from their defaults."""
    takes_top_p_with_temperature: bool = True
    takes_forced_tool: bool = True
    has_native_schema: bool = False


# Servers that speak this dialect with models of their own: thinking as Anthropic had it first, nothing newer.
_FOREIGN = ClaudeFamily(thinking="budget")


def claude_family(model: str) -> ClaudeFamily:
    """Return the family of a model by its name; models newer than this table count as the newest."""
    name = model.lower()
    if match := _NEW_NAME.search(name):
        return _family(match[1], (int(match[2]), int(match[3] or 0)))
    if match := _OLD_NAME.search(name):
        has_thinking = (int(match[1]), int(match[2] or 0)) >= (3, 7)
        return ClaudeFamily(thinking="budget" if has_thinking else "none")
    return _FOREIGN


def _family(line: str, version: tuple[int, int]) -> ClaudeFamily:
    if version < (4, 6):
        return ClaudeFamily(
            thinking="budget",
            takes_top_p_with_temperature=version < (4, 1),
            has_native_schema=version >= (4, 5),
        )
    if version < (4, 7):
        return ClaudeFamily(
            thinking="effort", takes_top_p_with_temperature=False, has_native_schema=True
        )
    is_largest = line in ("fable", "mythos")
    off: Literal["omit", "disabled", "between_tools", "never"] = "omit"
    if is_largest or (version > (5, 0) and line == "opus"):
        off = "never"
    elif version > (5, 0) and line == "sonnet":
        off = "between_tools"
    elif version >= (5, 0):
        off = "disabled"
    return ClaudeFamily(
        thinking="effort",
        off=off,
        has_xhigh=True,
        takes_sampling=False,
        takes_top_p_with_temperature=False,
        takes_forced_tool=version <= (5, 0) or line == "haiku",
        has_native_schema=True,
    )
