"""Streams of Bedrock's Converse API to stream items.

An answer is whole with the `metadata` that follow `messageStop`, or when the bytes end cleanly after that.
"""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import ChoiceDelta, ToolCallDelta
from maniac_core.providers.anthropic.answer import arguments_of
from maniac_core.providers.anthropic.request import JSON_TOOL
from maniac_core.providers.base import StreamEnd, StreamError, StreamItem, UpstreamFailure
from maniac_core.providers.bedrock.answer import (
    ToolUse,
    ending_of,
    finish_of,
    redacted,
    thought,
    usage_of,
)
from maniac_core.providers.bedrock.errors import exception_failure
from maniac_core.providers.openai.wire import new_call_id
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    check_calls,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)
from maniac_core.providers.transport.eventstream import EXCEPTION
from maniac_core.providers.transport.sse import SSEEvent


class _ToolInput(msgspec.Struct):
    input: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolInput | None = None
    reasoning_content: _Reasoning | None = None


class _Start(msgspec.Struct, rename="camel"):
    tool_use: ToolUse | None = None


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: _Start | None = None
    delta: _Delta | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_EVENT = msgspec.json.Decoder(_Event)
_KNOWN = frozenset({"contentBlockStart", "contentBlockDelta", "contentBlockStop"})
_KNOWN |= {"messageStop", "metadata"}


class _Block:
    """The state of one content block."""

    __slots__ = ("call", "has_text", "is_json", "thought")

    def __init__(self) -> None:
        self.call: int | None = None
        """Number of the tool call among those of the message."""
        self.is_json = False
        """Whether it calls the tool whose arguments are the content."""
        self.has_text = False
        self.thought: int | None = None
        """Number of the block among the reasoning details."""


class ConverseStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self, reasoning_format: str) -> None:
        self.malformed = 0
        self.has_usage = False
        self._reasoning_format = reasoning_format
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts = 0
        self._stop_reason: str | None = None
        self._is_over = False

    @property
    def has_finished(self) -> bool:
        """See `StreamDecoder`."""
        return self._stop_reason is not None

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        name = event.event or ""
        if name.startswith(EXCEPTION):
            return self._fail(exception_failure(name.removeprefix(EXCEPTION), event.data))
        if name not in _KNOWN:
            # The start of the message, which says nothing, and kinds of later days.
            return []
        try:
            wire = decode(_EVENT, event.data)
        except msgspec.ValidationError as err:
            if not is_other_than_object(err):
                return self._fail(malformed_failure(err))
            self.malformed += 1
            return []
        except NOT_JSON:
            self.malformed += 1
            return []
        match name:
            case "contentBlockDelta":
                return self._delta(wire)
            case "contentBlockStart":
                return self._start(wire)
            case "contentBlockStop":
                return self._close(self._blocks.pop(wire.content_block_index, None))
            case "messageStop":
                self._stop_reason = wire.stop_reason or ""
                return []
        usage = usage_of(loose_object(wire.usage))
        self.has_usage |= usage is not None
        items: list[StreamItem] = [usage] if usage is not None else []
        return items if self._stop_reason is None else [*items, *self._end(self._stop_reason)]

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly."""
        return [] if self._is_over or self._stop_reason is None else self._end(self._stop_reason)

    def _start(self, wire: _Event) -> list[StreamItem]:
        call = wire.start.tool_use if wire.start is not None else None
        if call is None:
            return []
        block = self._blocks[wire.content_block_index] = _Block()
        block.call = self._calls
        if call.name == JSON_TOOL:
            block.is_json = True
            return []
        self._calls += 1
        try:
            check_calls(self._calls, "message")
        except UpstreamFailure as failure:
            return self._fail(failure)
        call_id = call.tool_use_id or new_call_id()
        return [
            ChoiceDelta(
                tool_calls=(ToolCallDelta(index=block.call, id=call_id, name=call.name or ""),)
            )
        ]

    def _delta(self, wire: _Event) -> list[StreamItem]:
        delta = wire.delta
        if delta is None:
            self.malformed += 1
            return []
        if delta.text:
            return [ChoiceDelta(content=delta.text)]
        if delta.tool_use is not None:
            block = self._blocks.get(wire.content_block_index)
            if block is None:
                # The start of the block got lost, and with it the name of the tool.
                self.malformed += 1
                return []
            return self._arguments(block, delta.tool_use.input)
        if delta.reasoning_content is not None:
            return self._thinking(wire.content_block_index, delta.reasoning_content)
        return []

    def _thinking(self, index: int, wire: _Reasoning) -> list[StreamItem]:
        if wire.redacted_content:
            return [
                ChoiceDelta(
                    reasoning_details=[redacted(self._next_thought(), wire.redacted_content)]
                )
            ]
        block = self._blocks.setdefault(index, _Block())
        if block.thought is None:
            block.thought = self._next_thought()
        # A model that keeps its thinking to itself sends only the signature.
        text = wire.text or (None if block.has_text or not wire.signature else "")
        if not text and not wire.signature:
            return []
        detail = thought(
            block.thought,
            self._reasoning_format,
            text=text,
            signature=wire.signature or None,
            is_first=not block.has_text,
        )
        block.has_text = True
        return [ChoiceDelta(reasoning=text or None, reasoning_details=[detail])]

    def _arguments(self, block: _Block, text: str | None) -> list[StreamItem]:
        if block.call is None or not text:
            return []
        block.has_text = True
        if block.is_json:
            return [ChoiceDelta(content=text)]
        return [ChoiceDelta(tool_calls=(ToolCallDelta(index=block.call, arguments=text),))]

    def _close(self, block: _Block | None) -> list[StreamItem]:
        """End a block; a call without arguments gets `{}`."""
        if block is None or block.call is None or block.has_text:
            return []
        return self._arguments(block, arguments_of(None))

    def _end(self, stop_reason: str) -> list[StreamItem]:
        items: list[StreamItem] = []
        for block in self._blocks.values():
            items += self._close(block)
        try:
            finish = finish_of(stop_reason, has_calls=self._calls > 0)
        except UpstreamFailure as failure:
            return [*items, *self._fail(failure)]
        self._is_over = True
        ending = ending_of(stop_reason)
        return [*items, ChoiceDelta(finish_reason=finish, ending=ending), StreamEnd()]

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]

    def _next_thought(self) -> int:
        self._thoughts += 1
        return self._thoughts - 1
