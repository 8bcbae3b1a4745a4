"""The order of an answer's parts."""

from __future__ import annotations

from maniac_core.domain.chat import Block, BlockKind

_ORDER: tuple[BlockKind, ...] = ("reasoning", "text", "tool_call")


def in_order(blocks: list[Block]) -> tuple[Block, ...]:
    """Return the order of a message's parts; empty where it is the usual one."""
    kinds = [kind for kind, _ in blocks]
    return () if kinds == sorted(kinds, key=_ORDER.index) else tuple(blocks)
