"""The event streams of Responses to stream items.

An answer is whole with `response.completed` or `response.incomplete`, and with nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import (
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.errors import error_of_json, named_failure, unframed_failure
from maniac_core.providers.openai_responses.answer import (
    RESPONSE,
    WireResponse,
    billed,
    failure_of,
    last_delta,
    model_of,
    usage_of,
)
from maniac_core.providers.openai_responses.output import Channel, OutputReader
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    decode,
    is_other_than_object,
    malformed,
    malformed_failure,
)
from maniac_core.providers.transport.sse import SSEEvent

_NULL = msgspec.Raw(b"null")


class _Event(msgspec.Struct):
    type: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    item: JsonObject | None = None
    response: msgspec.Raw = _NULL


class _Kind(msgspec.Struct):
    type: str | None = None


_EVENT = msgspec.json.Decoder(_Event)
_KIND = msgspec.json.Decoder(_Kind)
_CHANNELS: dict[str, Channel] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "summary",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
# Events with a whole text, and the key that has it.
_TEXT_ENDS: dict[str, tuple[Channel, str]] = {
    "response.output_text.done": ("text", "text"),
    "response.refusal.done": ("refusal", "refusal"),
    "response.reasoning_summary_text.done": ("summary", "text"),
    "response.reasoning_text.done": ("reasoning", "text"),
    "response.function_call_arguments.done": ("arguments", "arguments"),
    "response.custom_tool_call_input.done": ("input", "input"),
}
_KNOWN = frozenset(
    {"response.output_item.added", "response.output_item.done", "response.created"}
    | {"response.completed", "response.incomplete", "response.failed", *_CHANNELS}
)


class ResponsesStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self) -> None:
        self.malformed = 0
        self.has_usage = False
        self._reader = OutputReader()
        self._last = -1
        """Index of the item that was announced last."""
        self._has_begun = False
        self._is_over = False

    @property
    def has_finished(self) -> bool:
        """See `StreamDecoder`. The event with the finish reason is the last one."""
        return self._is_over

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        try:
            return self._feed(event)
        except UpstreamFailure as failure:
            return self._fail(failure)

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly, which proves nothing."""
        return []

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
        kind = wire.type or event.event
        if kind in _CHANNELS:
            return self._delta(wire, _CHANNELS[kind])
        if kind in _TEXT_ENDS:
            return self._text_end(wire, *_TEXT_ENDS[kind])
        match kind:
            case "response.output_item.added":
                return self._item(wire, self._reader.begin)
            case "response.output_item.done":
                return self._item(wire, self._reader.end)
            case "response.created":
                return self._begin(wire.response)
            case "response.completed" | "response.incomplete" | "response.failed":
                return self._end(kind, wire.response)
            case "error":
                return self._fail(named_failure(event.data))
            case other:
                if failure := error_of_json(event.data):
                    return self._fail(failure)
                if other is None:
                    self.malformed += 1
        # Parts, tools that run at the provider, and whatever else will come to be.
        return []

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

    def _begin(self, raw: msgspec.Raw) -> list[StreamItem]:
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
        model = model_of(_response(raw))
        return [StreamModel(name=model)] if model else []

    def _item(self, wire: _Event, read: Callable[[int, JsonObject], list[Any]]) -> list[StreamItem]:
        if wire.item is None:
            self.malformed += 1
            return []
        if wire.output_index is None and read == self._reader.begin:
            self._last += 1
        else:
            self._last = self._index(wire)
        return list(read(self._last, wire.item))

    def _delta(self, wire: _Event, channel: Channel) -> list[StreamItem]:
        if wire.delta is None:
            self.malformed += 1
            return []
        if not isinstance(wire.delta, str):
            raise malformed("delta", "is not text")
        deltas = self._reader.piece(self._index(wire), channel, _part_of(wire, channel), wire.delta)
        if deltas is None:
            self.malformed += 1
            return []
        return list(deltas)

    def _text_end(self, wire: _Event, channel: Channel, key: str) -> list[StreamItem]:
        whole = getattr(wire, key)
        if not isinstance(whole, str):
            return []
        part = _part_of(wire, channel)
        return list(self._reader.text_end(self._index(wire), channel, part, whole))

    def _index(self, wire: _Event) -> int:
        return max(self._last, 0) if wire.output_index is None else wire.output_index

    def _end(self, kind: str, raw: msgspec.Raw) -> list[StreamItem]:
        wire = _response(raw)
        wire.status = kind.removeprefix("response.")
        if failure := failure_of(wire):
            return self._fail(failure)
        items: list[StreamItem] = []
        try:
            # Items that did not come in events of their own. Some servers leave all out here.
            for index, item in enumerate(wire.output or ()):
                items += self._reader.end(index, item)
        except UpstreamFailure as failure:
            raise billed(failure, bytes(raw)) from None
        items += self._reader.close()
        self._is_over = True
        if (usage := usage_of(wire)) is not None:
            self.has_usage = True
            items.append(usage)
        return [*items, last_delta(wire, self._reader), StreamEnd()]

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]


def _part_of(wire: _Event, channel: Channel) -> int:
    return (wire.summary_index if channel == "summary" else wire.content_index) or 0


def _response(raw: msgspec.Raw) -> WireResponse:
    """Return the response in an event; an empty one if there is none.

    Raises:
        UpstreamFailure: it is malformed.
    """
    if bytes(raw) == b"null":
        return WireResponse()
    try:
        return decode(RESPONSE, bytes(raw))
    except msgspec.ValidationError as err:
        raise billed(malformed_failure(err, "response"), bytes(raw)) from None
    except NOT_JSON:
        raise malformed("response", "cannot be read") from None
