"""Answers for wires other than chat: chat's form with what these need besides, which their edges translate.

Beside chat's own keys there are `seals` (of the reasoning that just ended) and `seal` (of a tool call), which the client
sends back; the provider's own words for the end, `native_finish_reason` and `stop_sequence`; the order of the parts,
`blocks`; and the lifetime of what was written to a cache.
"""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import (
    Choice,
    ChoiceDelta,
    Chunk,
    Completion,
    Ending,
    JsonObject,
    Usage,
    Wire,
)
from maniac_core.providers.translation.reasoning_details import has_format, merge_details
from maniac_core.rpc.chat.json_answer import (
    choice_json,
    delta_json,
    event_head,
    message_json,
    usage_json,
    whole_json,
)
from maniac_core.services.access.seals import ProjectSeals

_encode = msgspec.json.Encoder().encode
# Reasoning that clients of a wire know as it is.
_OPEN: dict[Wire, str] = {"messages": "anthropic-claude-v1"}


def wire_answer(completion: Completion, wire: Wire, seals: ProjectSeals) -> bytes:
    """Return a whole answer."""
    choices = [_choice(choice, wire, seals) for choice in completion.choices]
    return _encode(whole_json(completion, choices, _usage(completion.usage)))


def _choice(choice: Choice, wire: Wire, seals: ProjectSeals) -> JsonObject:
    message = message_json(choice.message)
    details = message.pop("reasoning_details", None) or []
    if _is_open(details, wire):
        message["reasoning_details"] = details
    elif details or message.get("reasoning"):
        message["seals"] = [seals.seal(_reasoning(message.get("reasoning"), details))]
    for call in message.get("tool_calls", ()):
        if extra := call.pop("extra_content", None):
            call["seal"] = seals.seal({"extra_content": extra})
    result: JsonObject = {
        "index": choice.index,
        "message": message,
        "finish_reason": choice.finish_reason or None,
        **_ending(choice.ending),
    }
    if choice.blocks:
        result["blocks"] = choice.blocks
    return result


class WireEncoder:
    """Encodes the chunks of one stream as events."""

    def __init__(self, wire: Wire, seals: ProjectSeals) -> None:
        self._wire = wire
        self._seals = seals
        self._head = b""
        self._texts: list[str] = []
        self._details: list[JsonObject] = []
        """Of the reasoning that has not ended."""
        self._is_open: bool | None = None
        """Whether the last piece of reasoning was of a format that clients know; None: there was none."""

    def events(self, chunks: list[Chunk]) -> bytes:
        """Return an event per choice, and one for usage."""
        if not self._head:
            self._head = event_head(chunks[0])
        events: list[bytes] = []
        for chunk in chunks:
            for delta in chunk.choices:
                events += (self._head, _encode(self._step(delta)), b"]}\n\n")
            if chunk.usage is not None:
                events += (self._head, b'],"usage":', _encode(_usage(chunk.usage)), b"}\n\n")
        return b"".join(events)

    def _step(self, delta: ChoiceDelta) -> JsonObject:
        added = delta_json(delta)
        if delta.reasoning_details:
            added.pop("reasoning_details")
            if self._goes_open(delta.reasoning_details):
                added["reasoning_details"] = delta.reasoning_details
            else:
                self._details += delta.reasoning_details
        if delta.reasoning and (self._details or not delta.reasoning_details):
            self._texts.append(delta.reasoning)
        if delta.content or delta.tool_calls or delta.refusal or delta.finish_reason is not None:
            self._end_reasoning(added)
        for call in added.get("tool_calls", ()):
            if extra := call.pop("extra_content", None):
                call["seal"] = self._seals.seal({"extra_content": extra})
        step = choice_json(delta, added)
        if delta.finish_reason is not None:
            step |= _ending(delta.ending)
        return step

    def _goes_open(self, pieces: list[JsonObject]) -> bool:
        """Whether pieces go to the client as they are. Only the first piece of a block has its format."""
        if self._is_open is None or any("format" in piece for piece in pieces):
            self._is_open = _is_open(pieces, self._wire)
        return self._is_open

    def _end_reasoning(self, added: JsonObject) -> None:
        if self._details or self._texts:
            ended = _reasoning("".join(self._texts), merge_details(self._details))
            added["seals"] = [self._seals.seal(ended)]
            self._details, self._texts = [], []


def _is_open(details: list[JsonObject], wire: Wire) -> bool:
    name = _OPEN.get(wire)
    return (
        bool(details)
        and name is not None
        and all(has_format(d, name, default=name) for d in details)
    )


def _reasoning(text: str | None, details: list[JsonObject]) -> JsonObject:
    return {"reasoning": text or "", "reasoning_details": details}


def _ending(ending: Ending | None) -> JsonObject:
    return {
        "native_finish_reason": ending.reason if ending is not None else None,
        "stop_sequence": ending.stop_sequence if ending is not None else None,
    }


def _usage(usage: Usage) -> JsonObject:
    counts = usage_json(usage)
    if usage.cache_write_1h_tokens:
        counts["prompt_tokens_details"]["cache_write_1h_tokens"] = usage.cache_write_1h_tokens
    return counts
