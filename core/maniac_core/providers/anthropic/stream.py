"""Anthropic's event streams to stream items.

An answer is whole with `message_stop`, or when the bytes end cleanly after a `message_delta` with a stop reason: by
then everything has been sent, and some servers of this dialect leave the last event out.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from maniac_core.domain.chat import ChoiceDelta, Ending, JsonObject, ToolCallDelta
from maniac_core.domain.errors import Reason
from maniac_core.providers.anthropic.answer import (
    COUNTS,
    CallBlock,
    RedactedBlock,
    TextBlock,
    ThinkingBlock,
    arguments_of,
    calls_in,
    ending_of,
    fallback_model,
    finish_of,
    has_output,
    redacted_detail,
    refusal_of,
    text_detail,
    usage_of,
)
from maniac_core.providers.anthropic.request import JSON_TOOL
from maniac_core.providers.base import (
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.errors import error_of_json, named_failure, unframed_failure
from maniac_core.providers.openai.wire import id_of, new_call_id
from maniac_core.providers.translation.counts import token_count
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    check_calls,
    convert,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)
from maniac_core.providers.transport.sse import SSEEvent

_NULL = msgspec.Raw(b"null")


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: Any = None
    stop_details: Any = None


class _Message(msgspec.Struct):
    model: Any = None
    content: list[JsonObject] | None = None
    usage: msgspec.Raw = _NULL


class _Event(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: JsonObject | None = None
    message: _Message | None = None
    usage: msgspec.Raw = _NULL
    error: Any = None


class _Kind(msgspec.Struct):
    type: str | None = None


_EVENT = msgspec.json.Decoder(_Event)
_KIND = msgspec.json.Decoder(_Kind)
_KNOWN = frozenset(
    {"content_block_delta", "content_block_start", "content_block_stop"}
    | {"message_start", "message_delta", "message_stop"}
)


class _Block:
    """The state of one content block."""

    __slots__ = ("call", "has_text", "is_json", "start_input", "thought")

    def __init__(self) -> None:
        self.call: int | None = None
        """Number of the tool call among those of the message."""
        self.is_json = False
        """Whether it calls the tool whose arguments are the content."""
        self.start_input: Any = None
        self.has_text = False
        self.thought: int | None = None
        """Number of the block among the reasoning details."""


class AnthropicStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self) -> None:
        self.malformed = 0
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._thoughts = 0
        self._usage: JsonObject = {}
        self._stop_reason: str | None = None
        self._ending: Ending | None = None
        self._has_begun = False
        self._is_over = False
        self.has_usage = False

    @property
    def has_finished(self) -> bool:
        """See `StreamDecoder`."""
        return self._stop_reason is not None

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        try:
            return self._feed(event)
        except UpstreamFailure as failure:
            return self._fail(failure)

    def _feed(self, event: SSEEvent) -> list[StreamItem]:
        if not event.is_framed:
            failure = unframed_failure(event.data)
            return [] if failure is None else self._fail(failure)
        if event.event == "error" and event.data.strip():
            return self._fail(named_failure(event.data))
        try:
            wire = decode(_EVENT, event.data)
        except msgspec.ValidationError as err:
            return self._misshapen(event, err)
        except NOT_JSON:
            return self._unreadable(event)
        # By the type in the data: some proxies leave the event lines out.
        match wire.type or event.event:
            case "content_block_delta":
                return self._delta(wire)
            case "content_block_start":
                return self._start(wire.index, wire.content_block)
            case "content_block_stop":
                return self._close(self._blocks.pop(-1 if wire.index is None else wire.index, None))
            case "message_start":
                return self._begin(wire.message)
            case "message_delta":
                return self._message_delta(wire)
            case "message_stop":
                return self._end()
            case "error":
                return self._fail(named_failure(event.data))
            case other:
                if failure := error_of_json(event.data):
                    return self._fail(failure)
                if other is None:
                    self.malformed += 1
        # ping, and whatever else will come to be.
        return []

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly."""
        return [] if self._is_over or self._stop_reason is None else self._end()

    def _misshapen(self, event: SSEEvent, err: msgspec.ValidationError) -> list[StreamItem]:
        """Handle JSON that has not the form of an event: what a known one would have added is lost."""
        if failure := error_of_json(event.data):
            return self._fail(failure)
        if is_other_than_object(err):
            return self._unreadable(event)
        kind = event.event
        with contextlib.suppress(*NOT_JSON):
            kind = _KIND.decode(event.data).type or kind
        if kind is None or kind in _KNOWN:
            return self._fail(malformed_failure(err))
        return []

    def _unreadable(self, event: SSEEvent) -> list[StreamItem]:
        data = event.data.strip()
        # Half an event at the end of the bytes is a cut, which the missing end tells.
        if event.complete and data not in (b"", b"[DONE]"):
            self.malformed += 1
        return []

    def _begin(self, message: _Message | None) -> list[StreamItem]:
        if self._has_begun:
            failure = UpstreamFailure(
                Reason.ERROR_REASON_UPSTREAM_ERROR,
                "The provider began a second answer inside the first.",
                retry=True,
                fall_back=True,
                http_status=200,
            )
            return self._fail(failure)
        self._has_begun = True
        if message is None:
            return []
        items: list[StreamItem] = []
        if message.model and isinstance(message.model, str):
            items.append(StreamModel(name=message.model))
        self._add_usage(message.usage)
        # The prompt's count is known from the start; the output count there is a placeholder.
        usage = usage_of({**self._usage, "output_tokens": 0})
        if usage is not None:
            items.append(usage)
        content = message.content or []
        try:
            check_calls(calls_in(content), "message.content")
        except UpstreamFailure as failure:
            return items + self._fail(failure)
        # Blocks that are there from the start come whole; their index is not used again.
        for position, block in enumerate(content):
            items += self._start(-2 - position, block)
            items += self._close(self._blocks.pop(-2 - position, None))
        return items

    def _start(self, index: int | None, wire: JsonObject | None) -> list[StreamItem]:
        if wire is None:
            self.malformed += 1
            return []
        block = self._blocks[0 if index is None else index] = _Block()
        where = "content_block"
        match wire.get("type"):
            case "text":
                return _content(convert(wire, TextBlock, where).text)
            case "thinking":
                block.thought = self._next_thought()
                thinking = convert(wire, ThinkingBlock, where)
                return self._thinking(block, thinking.thinking, thinking.signature)
            case "redacted_thinking":
                data = convert(wire, RedactedBlock, where).data or ""
                return [
                    ChoiceDelta(reasoning_details=[redacted_detail(self._next_thought(), data)])
                ]
            case "tool_use":
                call = convert(wire, CallBlock, where)
                block.start_input = call.input
                block.call = self._calls
                if call.name == JSON_TOOL:
                    block.is_json = True
                    return []
                self._calls += 1
                check_calls(self._calls, "message")
                call_id = id_of(call.id) or new_call_id()
                delta = ToolCallDelta(index=block.call, id=call_id, name=call.name or "")
                return [ChoiceDelta(tool_calls=(delta,))]
            case "fallback":
                model = fallback_model(wire)
                return [StreamModel(name=model)] if model else []
        # Tools that run at the provider, compaction, and kinds of later days.
        return []

    def _delta(self, wire: _Event) -> list[StreamItem]:
        delta = wire.delta
        if delta is None:
            self.malformed += 1
            return []
        index = wire.index or 0
        block = self._blocks.get(index)
        match delta.type:
            case "text_delta":
                return _content(delta.text)
            case "thinking_delta" | "signature_delta":
                if block is None:
                    block = self._blocks[index] = _Block()
                if block.thought is None:
                    block.thought = self._next_thought()
                return self._thinking(block, delta.thinking, delta.signature)
            case "input_json_delta":
                if block is None:
                    # The start of the block got lost, and with it the name of the tool.
                    self.malformed += 1
                    return []
                return self._arguments(block, delta.partial_json)
        # Citations, compaction, and kinds of later days.
        return []

    def _thinking(self, block: _Block, text: str | None, signature: str | None) -> list[StreamItem]:
        assert block.thought is not None
        items: list[StreamItem] = []
        if text:
            detail = text_detail(block.thought, text=text, is_first=not block.has_text)
            block.has_text = True
            items.append(ChoiceDelta(reasoning=text, reasoning_details=[detail]))
        if signature:
            # A model that keeps its thinking to itself sends only this.
            empty = None if block.has_text else ""
            detail = text_detail(
                block.thought, text=empty, signature=signature, is_first=not block.has_text
            )
            items.append(ChoiceDelta(reasoning_details=[detail]))
        return items

    def _arguments(self, block: _Block, text: str | None) -> list[StreamItem]:
        if block.call is None or not text:
            return []
        block.has_text = True
        if block.is_json:
            return [ChoiceDelta(content=text)]
        return [ChoiceDelta(tool_calls=(ToolCallDelta(index=block.call, arguments=text),))]

    def _close(self, block: _Block | None) -> list[StreamItem]:
        """End a block; a call without arguments gets those of its start, usually none: `{}`."""
        if block is None or block.call is None or block.has_text:
            return []
        return self._arguments(block, arguments_of(block.start_input))

    def _message_delta(self, wire: _Event) -> list[StreamItem]:
        items: list[StreamItem] = []
        if wire.delta is not None and wire.delta.stop_reason:
            self._stop_reason = wire.delta.stop_reason
            self._ending = ending_of(wire.delta.stop_reason, wire.delta.stop_sequence)
            refusal = refusal_of(wire.delta.stop_details)
            if refusal is not None:
                items.append(ChoiceDelta(refusal=refusal))
        added = self._add_usage(wire.usage)
        # The output count of the start is a placeholder: without a later one nothing is known.
        if has_output(added) and (usage := usage_of(self._usage)) is not None:
            self.has_usage = True
            items.append(usage)
        return items

    def _add_usage(self, raw: msgspec.Raw) -> JsonObject:
        """Counts are cumulative: a later one replaces the earlier, a missing or impossible one does not."""
        added = {
            name: value
            for name, value in loose_object(raw).items()
            if value is not None and (name not in COUNTS or token_count(value) is not None)
        }
        self._usage.update(added)
        return added

    def _end(self) -> list[StreamItem]:
        items: list[StreamItem] = []
        for block in self._blocks.values():
            items += self._close(block)
        self._is_over = True
        finish_reason = finish_of(self._stop_reason, has_calls=self._calls > 0)
        return [*items, ChoiceDelta(finish_reason=finish_reason, ending=self._ending), StreamEnd()]

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]

    def _next_thought(self) -> int:
        self._thoughts += 1
        return self._thoughts - 1


def _content(text: str | None) -> list[StreamItem]:
    return [ChoiceDelta(content=text)] if text else []
