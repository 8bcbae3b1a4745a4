"""Answers in Gemini's form: each step of a stream is an answer of its own."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from maniac_edge.error_forms import google_error
from maniac_edge.errors import EdgeError
from maniac_edge.http import sse
from maniac_edge.wires.base import PassesNative
from maniac_edge.wires.canonical import CallDelta, Chunk, Step, Usage, read_events, read_whole
from maniac_edge.wires.gemini.request import CALL_SEAL

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_REASONS = frozenset(
    {"STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "SPII"}
    | {"PROHIBITED_CONTENT", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "UNEXPECTED_TOOL_CALL"}
)
_encode = msgspec.json.Encoder().encode
_Object = dict[str, Any]


class GeminiWriter(PassesNative):
    """Writes one answer. Calls come whole, so they wait for the end; the end waits until the answer is captured."""

    def __init__(self) -> None:
        self._identity: _Object = {}
        self._parts: list[_Object] = []
        """Of the whole answer."""
        self._calls: dict[int, list[CallDelta]] = {}
        self._usage = Usage()
        self._reason = "STOP"

    def whole(self, answer: bytes) -> bytes:
        """Return a whole answer; see Writer."""
        for chunk in read_whole(answer):
            self._feed(chunk)
        self._parts += self._call_parts()
        return _encode(self._answer(_merged(self._parts), is_last=True))

    def events(self, data: bytes) -> bytes:
        """Return the events of steps that came together; see Writer."""
        steps = [parts for chunk in read_events(data) if (parts := self._feed(chunk))]
        answers = [self._answer(parts, is_last=False) for parts in steps]
        return b"".join([sse.frame(_encode(answer)) for answer in answers])

    def end(self) -> bytes:
        """Return the last event; see Writer."""
        parts = self._call_parts() or [{"text": ""}]
        return sse.frame(_encode(self._answer(parts, is_last=True)))

    def failed(self, error: EdgeError, request_id: str) -> bytes:
        """Return the event of a failure; see Writer."""
        return sse.frame(google_error(error, request_id))

    def _feed(self, chunk: Chunk) -> list[_Object]:
        if not self._identity:
            self._identity = {"modelVersion": chunk.model, "responseId": chunk.id}
        if chunk.usage is not None:
            self._usage = chunk.usage
        parts = [part for step in chunk.choices for part in self._step(step)]
        self._parts += parts
        return parts

    def _step(self, step: Step) -> list[_Object]:
        delta = step.delta
        parts: list[_Object] = []
        if delta.reasoning:
            parts.append({"text": delta.reasoning, "thought": True})
        parts += [
            {"text": "", "thought": True, "thoughtSignature": _signature(seal)}
            for seal in delta.seals or ()
        ]
        parts += [{"text": text} for text in (delta.content, delta.refusal) if text]
        for call in delta.tool_calls or ():
            self._calls.setdefault(call.index, []).append(call)
        if step.finish_reason is not None:
            given = step.native_finish_reason
            self._reason = given if given in _REASONS else _FINISH.get(step.finish_reason, "STOP")
        return parts

    def _call_parts(self) -> list[_Object]:
        return [_call(pieces) for _, pieces in sorted(self._calls.items())]

    def _answer(self, parts: list[_Object], *, is_last: bool) -> _Object:
        candidate: _Object = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if not is_last:
            return {"candidates": [candidate], **self._identity}
        candidate["finishReason"] = self._reason
        return {"candidates": [candidate], "usageMetadata": _counts(self._usage), **self._identity}


def _call(pieces: list[CallDelta]) -> _Object:
    text = "".join(piece.function.arguments for piece in pieces)
    try:
        args = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        args = None
    call = {
        "id": next((piece.id for piece in pieces if piece.id), ""),
        "name": next((piece.function.name for piece in pieces if piece.function.name), ""),
        "args": args if isinstance(args, dict) else {"INVALID_JSON": text},
    }
    part: _Object = {"functionCall": call}
    if seal := next((piece.seal for piece in pieces if piece.seal), None):
        part["thoughtSignature"] = _signature(CALL_SEAL + seal)
    return part


def _merged(parts: list[_Object]) -> list[_Object]:
    """Return parts with texts of one kind that follow each other put together."""
    merged: list[_Object] = []
    for part in parts:
        last = merged[-1] if merged else {}
        if "text" in part and last.keys() == part.keys() and "thoughtSignature" not in part:
            last["text"] += part["text"]
        else:
            merged.append(dict(part))
    return merged or [{"text": ""}]


def _signature(seal: str) -> str:
    # Clients take it for bytes.
    return base64.b64encode(seal.encode()).decode()


def _counts(usage: Usage) -> _Object:
    thoughts = usage.completion_tokens_details.reasoning_tokens
    counts = {
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.completion_tokens - thoughts,
        "totalTokenCount": usage.total_tokens,
    }
    if thoughts:
        counts["thoughtsTokenCount"] = thoughts
    if cached := usage.prompt_tokens_details.cached_tokens:
        counts["cachedContentTokenCount"] = cached
    return counts
