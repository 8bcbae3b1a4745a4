"""Gemini's answers, whole and streamed: a chunk of a stream has the form of a whole answer.

A stream names no end of its own: it is whole when the bytes end cleanly and every candidate had its finish reason.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from maniac_core.domain.chat import (
    Answer,
    Choice,
    ChoiceDelta,
    JsonObject,
    ToolCallDelta,
    Usage,
)
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.gemini.messages import REASONING_FORMAT
from maniac_core.providers.openai.wire import id_of
from maniac_core.providers.translation.counts import token_count
from maniac_core.providers.translation.foreign_json import (
    check_calls,
    loose_object,
    malformed,
)

_LARGEST_INDEX = 127
_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "OTHER": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
}
# The model produced something that is not an answer.
_BROKEN = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)


class _FunctionCall(msgspec.Struct):
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | int | None = None


class _Part(msgspec.Struct):
    text: str | None = None
    thought: bool | None = None
    thoughtSignature: str | None = None  # noqa: N815 - the wire's name
    functionCall: _FunctionCall | None = None  # noqa: N815 - the wire's name


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class Candidate(msgspec.Struct):
    """One candidate of a chunk."""

    index: int | None = None
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815 - the wire's name
    finishMessage: str | None = None  # noqa: N815 - the wire's name


class GeminiChunk(msgspec.Struct):
    """A chunk of a stream, or a whole answer."""

    candidates: list[Candidate] | None = None
    promptFeedback: Any = None  # noqa: N815 - the wire's name
    usageMetadata: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - the wire's name
    modelVersion: Any = None  # noqa: N815 - the wire's name
    responseId: Any = None  # noqa: N815 - the wire's name
    error: Any = None

    @property
    def is_blocked(self) -> bool:
        """Whether the prompt was refused, in which case there are no candidates."""
        feedback = self.promptFeedback
        return isinstance(feedback, dict) and bool(feedback.get("blockReason"))

    @property
    def model(self) -> str | None:
        """The model that answers, as the provider names it."""
        return self.modelVersion if isinstance(self.modelVersion, str) else None


class CandidateState:
    """The state of one candidate; turns its parts into deltas."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._finish_reason: str | None = None
        self._calls = 0
        self._details = 0

    @property
    def finish_reason(self) -> str | None:
        """None: it has not ended. STOP is said also of an answer that calls tools."""
        if self._finish_reason == "stop" and self._calls:
            return "tool_calls"
        return self._finish_reason

    def add(self, wire: Candidate, response_id: Any) -> list[ChoiceDelta]:
        """Return what a chunk adds.

        Raises:
            UpstreamFailure: the finish reason says that there is no answer, or there are too many calls.
        """
        deltas: list[ChoiceDelta] = []
        parts = (wire.content.parts or ()) if wire.content else ()
        calls = sum(part.functionCall is not None for part in parts)
        check_calls(self._calls + calls, "candidates[].content.parts")
        for part in parts:
            deltas += self._part(part, response_id)
        reason = wire.finishReason
        if reason in _BROKEN:
            raise _unusable(reason)
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self._finish_reason = _FINISH.get(reason, "stop")
        return deltas

    def block(self) -> None:
        """The prompt was refused."""
        self._finish_reason = "content_filter"

    def _part(self, part: _Part, response_id: Any) -> list[ChoiceDelta]:
        deltas: list[ChoiceDelta] = []
        if part.functionCall is not None:
            return [ChoiceDelta(index=self.index, tool_calls=(self._call(part, response_id),))]
        if part.text and part.thought:
            deltas.append(ChoiceDelta(index=self.index, reasoning=part.text))
        elif part.text:
            deltas.append(ChoiceDelta(index=self.index, content=part.text))
        if part.thoughtSignature:
            detail: JsonObject = {
                "type": "reasoning.encrypted",
                "data": part.thoughtSignature,
                "format": REASONING_FORMAT,
                "index": self._details,
            }
            self._details += 1
            deltas.append(ChoiceDelta(index=self.index, reasoning_details=[detail]))
        return deltas

    def _call(self, part: _Part, response_id: Any) -> ToolCallDelta:
        call = part.functionCall
        assert call is not None
        if not call.name:
            raise _unusable("a function call without a name")
        number = self._calls
        self._calls += 1
        arguments = _arguments(call.args)
        extra: JsonObject | None = None
        if part.thoughtSignature:
            extra = {"extra_content": {"google": {"thought_signature": part.thoughtSignature}}}
        return ToolCallDelta(
            index=number,
            id=id_of(call.id) or _call_id(response_id, self.index, number, call.name, arguments),
            name=call.name,
            arguments=arguments,
            extra=extra,
        )


def whole_answer(chunk: GeminiChunk) -> Answer | None:
    """Return a whole answer; None: the chunk holds none.

    Raises:
        UpstreamFailure: the finish reason says that there is no answer.
    """
    choices: list[Choice] = []
    for position, candidate in enumerate(chunk.candidates or ()):
        state = CandidateState(index_of(candidate, position))
        deltas = state.add(candidate, chunk.responseId)
        default = "tool_calls" if any(delta.tool_calls for delta in deltas) else "stop"
        choices.append(
            Choice(
                index=state.index,
                message=_message(deltas),
                finish_reason=state.finish_reason or default,
            )
        )
    if not choices and chunk.is_blocked:
        message = {"role": "assistant", "content": None}
        choices.append(Choice(index=0, message=message, finish_reason="content_filter"))
    if not choices:
        return None
    usage = usage_of(loose_object(chunk.usageMetadata))
    return Answer(choices=choices, usage=usage, upstream_model=chunk.model)


def index_of(candidate: Candidate, position: int) -> int:
    """Return the number of a candidate: its place in the list, unless it says one that can be."""
    index = candidate.index
    return position if index is None or not 0 <= index <= _LARGEST_INDEX else index


def usage_of(wire: JsonObject) -> Usage | None:
    """Return the token counts in buckets that do not overlap; Gemini's prompt includes what came from the cache.

    None: nothing was counted. An answer, or a prompt, of 0 tokens was not counted either.
    """
    own = token_count(wire.get("promptTokenCount"))
    # Prompt tokens of tools that run at the provider are counted separately.
    prompt = 0 if own is None else own + (token_count(wire.get("toolUsePromptTokenCount")) or 0)
    cached = min(token_count(wire.get("cachedContentTokenCount")) or 0, prompt)
    output = token_count(wire.get("candidatesTokenCount"))
    thoughts = token_count(wire.get("thoughtsTokenCount")) or 0
    if output is None:
        output = 0
        if wire.get("candidatesTokenCount") is not None:
            # The thinking alone is not the answer.
            thoughts = 0
    audio_in = _audio(wire.get("promptTokensDetails"))
    audio_out = _audio(wire.get("candidatesTokensDetails"))
    usage = Usage(
        input_tokens=prompt - cached,
        cache_read_tokens=cached,
        output_tokens=output,
        reasoning_tokens=thoughts,
        input_audio_tokens=None if audio_in is None else min(audio_in, prompt - cached),
        output_audio_tokens=None if audio_out is None else min(audio_out, output),
    )
    return usage if usage.total_tokens else None


def _unusable(what: str | None) -> UpstreamFailure:
    return UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_ERROR,
        f"The model's answer was unusable ({what}).",
        retry=True,
        fall_back=True,
        http_status=200,
    )


def _audio(details: Any) -> int | None:
    counts = [
        token_count(detail.get("tokenCount")) or 0
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("modality") == "AUDIO"
    ]
    return sum(counts) if counts else None


def _arguments(args: msgspec.Raw) -> str:
    """Return arguments as JSON text on one line; numbers stay as they were written."""
    try:
        text = msgspec.json.format(bytes(args), indent=-1).decode()
    except RecursionError:
        raise malformed("functionCall.args", "is nested too deeply") from None
    return "{}" if text == "null" else text


def _call_id(response_id: Any, index: int, number: int, name: str, arguments: str) -> str:
    """Return the id of a call that came without one: the same whenever the same answer is read."""
    text = f"{response_id}\0{index}\0{number}\0{name}\0{arguments}"
    return "call_" + hashlib.sha256(text.encode()).hexdigest()[:24]


def _message(deltas: list[ChoiceDelta]) -> JsonObject:
    content = "".join(delta.content or "" for delta in deltas)
    reasoning = "".join(delta.reasoning or "" for delta in deltas)
    details = [detail for delta in deltas for detail in delta.reasoning_details or ()]
    calls = [call for delta in deltas for call in delta.tool_calls]
    message: JsonObject = {"role": "assistant", "content": content or None}
    if reasoning:
        message["reasoning"] = reasoning
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **(call.extra or {}),
            }
            for call in calls
        ]
    return message
