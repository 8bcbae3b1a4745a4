"""Folds the steps of a streamed answer into the whole answer: OpenAI message objects."""

from __future__ import annotations

from collections.abc import Iterable

from maniac_core.domain.chat import (
    Choice,
    ChoiceDelta,
    Ending,
    JsonObject,
    ToolCallDelta,
    Usage,
)
from maniac_core.providers.base import NativeEvent, StreamItem
from maniac_core.providers.translation.reasoning_details import merge_details
from maniac_core.providers.translation.streamed_extras import merge_extras


class Accumulator:
    """Takes stream items as they come. Cheap per step: it keeps the pieces and joins them when asked."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        """The last usage that was reported."""
        self._choices: dict[int, _Parts] = {}
        self._native: list[bytes] = []

    @property
    def native(self) -> bytes | None:
        """The events so far as they came, if they are passed on so."""
        return b"".join(self._native) if self._native else None

    @property
    def finish_reason(self) -> str | None:
        """Finish reason of the first choice; None while it has none."""
        for _, parts in sorted(self._choices.items()):
            return parts.finish_reason
        return None

    @property
    def text_length(self) -> int:
        """Characters of content, reasoning, refusal and tool arguments so far, over all choices."""
        return sum(parts.text_length() for parts in self._choices.values())

    @property
    def pieces(self) -> int:
        """In how many pieces that came, each of them a token at least."""
        return sum(parts.count() for parts in self._choices.values())

    def add_all(self, items: Iterable[StreamItem]) -> None:
        """Take items in order."""
        for item in items:
            if item.__class__ is ChoiceDelta:
                self.add_delta(item)
            elif item.__class__ is Usage:
                self.usage = item
            elif item.__class__ is NativeEvent:
                self._native.append(item.data)

    def add_delta(self, delta: ChoiceDelta) -> None:
        """Take one step of one choice."""
        parts = self._choices.get(delta.index)
        if parts is None:
            parts = self._choices[delta.index] = _Parts()
        if delta.content:
            parts.content.append(delta.content)
        if delta.reasoning:
            parts.reasoning.append(delta.reasoning)
        if delta.tool_calls:
            for call in delta.tool_calls:
                parts.add_call(call)
        if delta.reasoning_details:
            parts.details += delta.reasoning_details
        if delta.refusal:
            parts.refusal.append(delta.refusal)
        if delta.extra:
            parts.extras.append(delta.extra)
        if delta.finish_reason is not None:
            parts.finish_reason = delta.finish_reason
            parts.ending = delta.ending

    def choices(self) -> list[Choice]:
        """Return what there is so far, in order of the choices' indexes."""
        return [
            Choice(
                index=index,
                message=parts.message(),
                finish_reason=parts.finish_reason,
                ending=parts.ending,
            )
            for index, parts in sorted(self._choices.items())
        ]


class _Parts:
    """The pieces of one choice."""

    __slots__ = (
        "calls",
        "content",
        "details",
        "ending",
        "extras",
        "finish_reason",
        "reasoning",
        "refusal",
    )

    def __init__(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.details: list[JsonObject] = []
        self.extras: list[JsonObject] = []
        self.calls: dict[int, _Call] = {}
        self.finish_reason: str | None = None
        self.ending: Ending | None = None

    def add_call(self, delta: ToolCallDelta) -> None:
        call = self.calls.get(delta.index)
        if call is None:
            call = self.calls[delta.index] = _Call()
        if delta.arguments:
            call.arguments.append(delta.arguments)
        if delta.id:
            call.id = delta.id
        if delta.name:
            call.name = delta.name
        if delta.extra:
            call.extra.update(delta.extra)

    def text_length(self) -> int:
        pieces = [*self.content, *self.reasoning, *self.refusal]
        for call in self.calls.values():
            pieces += call.arguments
        return sum(map(len, pieces))

    def count(self) -> int:
        calls = sum(len(call.arguments) for call in self.calls.values())
        return len(self.content) + len(self.reasoning) + len(self.refusal) + calls

    def message(self) -> JsonObject:
        message: JsonObject = {
            "role": "assistant",
            "content": "".join(self.content) if self.content else None,
        }
        if self.reasoning:
            message["reasoning"] = "".join(self.reasoning)
        if self.details:
            message["reasoning_details"] = merge_details(self.details)
        if self.calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self.calls.items())]
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.extras:
            message.update(merge_extras(self.extras))
        return message


class _Call:
    """The pieces of one tool call."""

    __slots__ = ("arguments", "extra", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.extra: JsonObject = {}

    def whole(self) -> JsonObject:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": "".join(self.arguments)},
            **self.extra,
        }
