"""Answers in Anthropic's form: whole messages and their events, from answers in chat's form."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_edge.error_forms import anthropic_error
from maniac_edge.errors import EdgeError
from maniac_edge.wires.base import PassesNative
from maniac_edge.wires.canonical import (
    CallDelta,
    Chunk,
    Delta,
    Step,
    Usage,
    read_events,
    read_whole,
)
from maniac_edge.wires.messages.request import CALL_SEAL

_encode = msgspec.json.Encoder().encode
_STOP_REASONS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)
_FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_Object = dict[str, Any]


class MessagesWriter(PassesNative):
    """Writes one answer. Blocks follow each other: one is open at a time, and has to close before the next."""

    def __init__(self) -> None:
        self._message: _Object = {}
        self._blocks: list[_Object] = []
        self._pieces: list[str] = []
        """Of the text of the open block."""
        self._open: str | None = None
        """Type of the open block."""
        self._call: int | None = None
        """Index of the open call."""
        self._waiting: dict[int, list[CallDelta]] = {}
        """Calls that came while another one is open."""
        self._usage = Usage()
        self._stop_reason = "end_turn"
        self._stop_sequence: str | None = None
        self._is_stopped = False
        """Whether the provider's own events have come to their end."""

    def whole(self, answer: bytes) -> bytes:
        """Return a whole message; see Writer."""
        for chunk in read_whole(answer):
            self._feed(chunk, [])
        self._close([])
        return _encode(
            {
                **self._message,
                "content": self._blocks,
                "stop_reason": self._stop_reason,
                "stop_sequence": self._stop_sequence,
                "usage": _usage(self._usage),
            }
        )

    def events(self, data: bytes) -> bytes:
        """Return the events of steps that came together; see Writer."""
        out: list[bytes] = []
        for chunk in read_events(data):
            self._feed(chunk, out)
        return b"".join(out)

    def end(self) -> bytes:
        """Return the last events; see Writer."""
        out: list[bytes] = []
        self._close(out)
        end = {
            "type": "message_delta",
            "delta": {"stop_reason": self._stop_reason, "stop_sequence": self._stop_sequence},
            "usage": _usage(self._usage),
        }
        return b"".join([*out, _event("message_delta", end), _MESSAGE_STOP])

    def native_events(self, data: bytes) -> bytes:
        """Return the events as they are; see Writer."""
        self._is_stopped |= b'"message_stop"' in data
        return data

    def native_end(self) -> bytes:
        """Return the last event if the provider has left it out, as some servers do; see Writer."""
        return b"" if self._is_stopped else _MESSAGE_STOP

    def failed(self, error: EdgeError, request_id: str) -> bytes:
        """Return the event of a failure; see Writer."""
        return b"event: error\ndata: %b\n\n" % anthropic_error(error, request_id)

    def _feed(self, chunk: Chunk, out: list[bytes]) -> None:
        if not self._message:
            self._begin(chunk, out)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for step in chunk.choices:
            self._step(step, out)

    def _begin(self, chunk: Chunk, out: list[bytes]) -> None:
        self._message = {
            "id": chunk.id,
            "type": "message",
            "role": "assistant",
            "model": chunk.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(chunk.usage or Usage()),
        }
        out.append(_event("message_start", {"type": "message_start", "message": self._message}))
        out.append(_PING)

    def _step(self, step: Step, out: list[bytes]) -> None:
        delta = step.delta
        if delta.reasoning:
            self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
            self._add(out, "thinking_delta", "thinking", delta.reasoning)
        if delta.reasoning_details or delta.seals:
            self._sign(delta, out)
        for text in (delta.content, delta.refusal):
            if text:
                self._enter("text", {"type": "text", "text": ""}, out)
                self._add(out, "text_delta", "text", text)
        for call in delta.tool_calls or ():
            self._add_call(call, out)
        if step.finish_reason is not None:
            self._finish(step)

    def _sign(self, delta: Delta, out: list[bytes]) -> None:
        """Write what has to come back: signatures as they are or sealed, and thinking that nobody can read."""
        for detail in delta.reasoning_details or ():
            if detail.get("type") == "reasoning.encrypted":
                self._redact(str(detail.get("data") or ""), out)
            elif signature := detail.get("signature"):
                self._write_signature(str(signature), out)
        for seal in delta.seals or ():
            if self._open == "thinking":
                self._write_signature(seal, out)
            else:
                self._redact(seal, out)

    def _write_signature(self, signature: str, out: list[bytes]) -> None:
        self._enter("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
        self._blocks[-1]["signature"] = signature
        self._delta(out, {"type": "signature_delta", "signature": signature})
        # What follows is another block of thinking.
        self._close(out)

    def _redact(self, data: str, out: list[bytes]) -> None:
        self._close(out)
        self._start({"type": "redacted_thinking", "data": data}, out)
        self._close(out)

    def _add_call(self, call: CallDelta, out: list[bytes]) -> None:
        if self._call is not None and call.index != self._call:
            # It waits until the open one has all of its arguments, which only the end tells.
            self._waiting.setdefault(call.index, []).append(call)
            return
        if self._call is None:
            self._close_open(out)
            if call.seal:
                signed = {"type": "thinking", "thinking": "", "signature": CALL_SEAL + call.seal}
                self._start({**signed, "signature": ""}, out)
                self._blocks[-1] = signed
                self._delta(out, {"type": "signature_delta", "signature": signed["signature"]})
                self._close_open(out)
            block: _Object = {
                "type": "tool_use",
                "id": call.id,
                "name": call.function.name,
                "input": {},
            }
            self._start(block, out)
            self._call = call.index
        if call.function.arguments:
            self._add(out, "input_json_delta", "partial_json", call.function.arguments)

    def _finish(self, step: Step) -> None:
        self._stop_sequence = step.stop_sequence
        if step.native_finish_reason in _STOP_REASONS:
            self._stop_reason = step.native_finish_reason
        else:
            self._stop_reason = _FINISH.get(step.finish_reason or "", "end_turn")
            if self._stop_reason == "end_turn" and any(
                b["type"] == "tool_use" for b in self._blocks
            ):
                # Some servers call that a plain stop; agents would not run the tools.
                self._stop_reason = "tool_use"

    def _enter(self, kind: str, block: _Object, out: list[bytes]) -> None:
        if self._open != kind:
            self._close(out)
            self._start(block, out)

    def _start(self, block: _Object, out: list[bytes]) -> None:
        self._open = block["type"]
        out.append(
            _event(
                "content_block_start",
                {
                    "type": "content_block_start",
                    "index": len(self._blocks),
                    "content_block": block,
                },
            )
        )
        self._blocks.append(dict(block))

    def _add(self, out: list[bytes], kind: str, key: str, text: str) -> None:
        self._pieces.append(text)
        out.append(
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%b","%b":%b}}\n\n'
            % (len(self._blocks) - 1, kind.encode(), key.encode(), _encode(text))
        )

    def _delta(self, out: list[bytes], delta: _Object) -> None:
        event = {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}
        out.append(_event("content_block_delta", event))

    def _close(self, out: list[bytes]) -> None:
        """Close the open block, and write the calls that waited for that."""
        self._close_open(out)
        waiting, self._waiting = self._waiting, {}
        for index in sorted(waiting):
            for call in waiting[index]:
                self._add_call(call, out)
            self._close_open(out)

    def _close_open(self, out: list[bytes]) -> None:
        if self._open is None:
            return
        block, text = self._blocks[-1], "".join(self._pieces)
        self._pieces.clear()
        if self._open == "tool_use":
            block["input"] = _input(text)
        elif self._open in ("text", "thinking"):
            block[self._open] = text
        stop = {"type": "content_block_stop", "index": len(self._blocks) - 1}
        out.append(_event("content_block_stop", stop))
        self._open = self._call = None


def _input(text: str) -> Any:
    """Return the arguments of a call as a value; those that are no JSON object as what the model wrote."""
    try:
        value = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def _event(name: str, data: _Object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))


def _usage(usage: Usage) -> _Object:
    """Return counts in buckets that do not overlap."""
    details = usage.prompt_tokens_details
    written = details.cache_write_tokens
    counts: _Object = {
        "input_tokens": max(0, usage.prompt_tokens - details.cached_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": details.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if details.cache_write_1h_tokens:
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": written - details.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": details.cache_write_1h_tokens,
        }
    return counts
