"""The items of an answer, whole or in pieces, as steps of an answer in chat's form.

Whole answers and streams go the same way: an item that comes whole is one whose pieces are all left to come. So is
what a stream lost: the end of an item has all of its text, and the last event has all items.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from maniac_core.domain.chat import ChoiceDelta, JsonObject, ToolCallDelta
from maniac_core.providers.openai.wire import arguments_of, id_of, new_call_id
from maniac_core.providers.openai_responses.items import REASONING_FORMAT
from maniac_core.providers.translation.foreign_json import check_calls, convert

Channel = Literal["text", "refusal", "summary", "reasoning", "arguments", "input"]
"""What a piece of text is of; `input` is the text of a tool that takes text, shown as JSON with that text in it."""

_KIND_OF: dict[Channel, str] = {
    "text": "message",
    "refusal": "message",
    "summary": "reasoning",
    "reasoning": "reasoning",
    "arguments": "function_call",
    "input": "custom_tool_call",
}
_INPUT_START, _INPUT_END = '{"input":"', '"}'
_DETAIL: dict[Channel, tuple[str, str]] = {
    "summary": ("reasoning.summary", "summary"),
    "reasoning": ("reasoning.text", "text"),
}
_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: list[JsonObject] | None = None


class _WireItem(msgspec.Struct):
    """An item of one of the kinds that are read."""

    id: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None
    call_id: str | int | None = None
    name: str | None = None
    arguments: Any = None
    input: str | None = None


class _Citation(msgspec.Struct):
    url: str = ""
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Item:
    """The state of one item."""

    __slots__ = ("call", "details", "id", "is_done", "kind", "sent", "start")

    def __init__(self, kind: str, name: str | None, start: int) -> None:
        self.kind = kind
        self.id = name
        self.start = start
        """Characters of content before it."""
        self.call: int | None = None
        """Number of the call among those of the message."""
        self.sent: dict[tuple[Channel, int], list[str]] = {}
        self.details: dict[Channel, int] = {}
        """Numbers of its blocks among the reasoning details."""
        self.is_done = False

    def text(self, channel: Channel, part: int) -> str:
        return "".join(self.sent.get((channel, part), ()))


class OutputReader:
    """Reads the items of one answer."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls so far."""
        self._items: dict[int, _Item] = {}
        self._details = 0
        self._content = 0

    def begin(self, index: int, wire: JsonObject) -> list[ChoiceDelta]:
        """Read an item that was announced.

        Raises:
            UpstreamFailure: it is malformed.
        """
        kind = wire.get("type")
        if index in self._items or not isinstance(kind, str) or kind not in _KIND_OF.values():
            return []
        read = convert(wire, _WireItem, f"output[{index}]")
        item = self._items[index] = _Item(kind, read.id, self._content)
        return self._call(item, read)

    def piece(self, index: int, channel: Channel, part: int, text: str) -> list[ChoiceDelta] | None:
        """Read a piece of text of an item; None: it belongs to none, since the item was not announced."""
        item = self._items.get(index)
        if item is None and not _is_call(channel):
            item = self._items[index] = _Item(_KIND_OF[channel], None, self._content)
        if item is None or item.kind != _KIND_OF[channel] or item.is_done:
            return None
        if item.call is None and _is_call(channel):
            # Its name is yet to come, and with it all of its text.
            return None
        return self._add(item, channel, part, text)

    def text_end(self, index: int, channel: Channel, part: int, whole: str) -> list[ChoiceDelta]:
        """Read a text that is whole: what of it has not come yet."""
        item = self._items.get(index)
        if item is None or item.is_done or (item.call is None and _is_call(channel)):
            # The item itself, with this text in it, is yet to come, or has.
            return []
        return self._rest(item, channel, part, whole)

    def end(self, index: int, wire: JsonObject) -> list[ChoiceDelta]:
        """Read an item that is whole: what of it has not come yet.

        Raises:
            UpstreamFailure: it is malformed.
        """
        deltas = self.begin(index, wire)
        item = self._items.get(index)
        if item is None or item.is_done or item.kind != wire.get("type"):
            return deltas
        read = convert(wire, _WireItem, f"output[{index}]")
        item.id = item.id or read.id
        if item.kind == "message":
            deltas += self._end_message(item, read.content or [])
        elif item.kind == "reasoning":
            deltas += self._end_reasoning(item, read)
        else:
            deltas += self._call(item, read) if item.call is None else []
            deltas += self._rest(item, "arguments", 0, arguments_of(read.arguments))
            deltas += self._rest(item, "input", 0, read.input or "")
            deltas += self._close(item)
        item.is_done = True
        return deltas

    def close(self) -> list[ChoiceDelta]:
        """End what has no end: nothing more will come."""
        deltas: list[ChoiceDelta] = []
        for item in self._items.values():
            if not item.is_done:
                deltas += self._close(item)
                item.is_done = True
        return deltas

    def _call(self, item: _Item, read: _WireItem) -> list[ChoiceDelta]:
        """Begin a call, if it is one and its name is known."""
        if item.kind not in ("function_call", "custom_tool_call") or not read.name:
            return []
        item.call = self.calls
        self.calls += 1
        check_calls(self.calls, "output")
        call_id = id_of(read.call_id) or read.id or new_call_id()
        start = _INPUT_START if item.kind == "custom_tool_call" else ""
        return [
            ChoiceDelta(
                tool_calls=(
                    ToolCallDelta(index=item.call, id=call_id, name=read.name, arguments=start),
                )
            )
        ]

    def _close(self, item: _Item) -> list[ChoiceDelta]:
        """End the arguments of a call; one without any gets `{}`."""
        if item.call is None:
            return []
        if item.kind == "custom_tool_call":
            return [_arguments(item.call, _INPUT_END)]
        return [] if item.sent else [_arguments(item.call, "{}")]

    def _end_message(self, item: _Item, parts: list[_Part]) -> list[ChoiceDelta]:
        deltas: list[ChoiceDelta] = []
        annotations: list[JsonObject] = []
        start = item.start
        for position, part in enumerate(parts):
            if part.type == "refusal":
                deltas += self._rest(item, "refusal", position, part.refusal or "")
                continue
            deltas += self._rest(item, "text", position, part.text or "")
            annotations += _citations(part.annotations or (), start)
            start += len(item.text("text", position))
        if annotations:
            deltas.append(ChoiceDelta(extra={"annotations": annotations}))
        return deltas

    def _end_reasoning(self, item: _Item, read: _WireItem) -> list[ChoiceDelta]:
        deltas: list[ChoiceDelta] = []
        for position, part in enumerate(read.summary or ()):
            deltas += self._rest(item, "summary", position, part.text or "")
        for position, part in enumerate(read.content or ()):
            deltas += self._rest(item, "reasoning", position, part.text or "")
        if read.encrypted_content:
            detail = {"type": "reasoning.encrypted", "data": read.encrypted_content}
            deltas.append(ChoiceDelta(reasoning_details=[self._first(item, detail)]))
        return deltas

    def _rest(self, item: _Item, channel: Channel, part: int, whole: str) -> list[ChoiceDelta]:
        """Return what is missing of a text. What came and does not belong to it cannot be taken back."""
        sent = item.text(channel, part)
        if len(whole) <= len(sent) or not whole.startswith(sent) or _KIND_OF[channel] != item.kind:
            return []
        return self._add(item, channel, part, whole[len(sent) :])

    def _add(self, item: _Item, channel: Channel, part: int, text: str) -> list[ChoiceDelta]:
        if not text:
            return []
        pieces = item.sent.get((channel, part))
        is_next = pieces is None and any(sent == channel for sent, _ in item.sent)
        if pieces is None:
            pieces = item.sent[channel, part] = []
        pieces.append(text)
        match channel:
            case "text":
                self._content += len(text)
                return [ChoiceDelta(content=text)]
            case "refusal":
                return [ChoiceDelta(refusal=text)]
            case "arguments" | "input":
                # A call without a name is none.
                if item.call is None:
                    return []
                return [_arguments(item.call, text if channel == "arguments" else _escaped(text))]
        # The parts of reasoning are paragraphs.
        return [self._thought(item, channel, f"\n\n{text}" if is_next else text)]

    def _thought(self, item: _Item, channel: Channel, text: str) -> ChoiceDelta:
        kind, key = _DETAIL[channel]
        detail: JsonObject = {"type": kind, key: text}
        if channel in item.details:
            detail["index"] = item.details[channel]
        else:
            item.details[channel] = self._details
            detail = self._first(item, detail)
        return ChoiceDelta(reasoning=text, reasoning_details=[detail])

    def _first(self, item: _Item, detail: JsonObject) -> JsonObject:
        """Return the first piece of a block, which alone says what it is: clients add up the texts of pieces."""
        if item.id:
            detail["id"] = item.id
        self._details += 1
        return {**detail, "format": REASONING_FORMAT, "index": self._details - 1}


def _is_call(channel: Channel) -> bool:
    return channel in ("arguments", "input")


def _arguments(call: int, text: str) -> ChoiceDelta:
    return ChoiceDelta(tool_calls=(ToolCallDelta(index=call, arguments=text),))


def _escaped(text: str) -> str:
    return _encode(text)[1:-1].decode()


def _citations(annotations: Any, offset: int) -> list[JsonObject]:
    """Return the annotations that chat has as well: addresses of the web, by their place in the whole text."""
    citations: list[JsonObject] = []
    for annotation in annotations:
        if annotation.get("type") != "url_citation":
            continue
        read = convert(annotation, _Citation, "annotations")
        citation: JsonObject = {"url": read.url, "title": read.title or ""}
        if read.start_index is not None and read.end_index is not None:
            citation["start_index"] = read.start_index + offset
            citation["end_index"] = read.end_index + offset
        citations.append({"type": "url_citation", "url_citation": citation})
    return citations
