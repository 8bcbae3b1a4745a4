"""Chunks of a streamed answer on OpenAI's wire to stream items.

What it holds back and why: the finish reason of a choice goes out with the end of the stream, because some servers
send it before the last text, or twice. What it drops: `id`, `system_fingerprint`, `obfuscation`, `logprobs`, and of
deltas what `ChoiceDelta` has no place for.

An answer is whole when `[DONE]` came and every choice had text or a finish reason, or when the bytes ended cleanly
and every choice had a finish reason. Anything else gets no `StreamEnd`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import STREAMED_EXTRAS, ChoiceDelta, JsonObject
from maniac_core.providers.base import (
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.errors import (
    error_of_json,
    named_failure,
    stream_failure,
    unframed_failure,
)
from maniac_core.providers.openai.answer import MAX_CHOICES, finish_of
from maniac_core.providers.openai.tool_calls import ToolCalls
from maniac_core.providers.openai.usage import usage_of
from maniac_core.providers.openai.wire import WireCall, WireMessage, details_of, text_of
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    check_depth,
    decode,
    is_other_than_object,
    malformed,
    malformed_failure,
)
from maniac_core.providers.transport.sse import SSEEvent

_NULL = msgspec.Raw(b"null")
_LARGEST_INDEX = MAX_CHOICES - 1


class _WireChoice(msgspec.Struct):
    index: int | None = None
    delta: WireMessage | None = None
    message: WireMessage | None = None
    """Instead of `delta`, from servers that stream a whole answer as one chunk."""
    finish_reason: str | None = None
    error: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_WireChoice] | None = None
    model: Any = None
    id: Any = None
    usage: msgspec.Raw = _NULL
    service_tier: Any = None
    error: Any = None
    x_groq: Any = None


# Not strict: some send numbers as text.
_CHUNK = msgspec.json.Decoder(_Chunk, strict=False)


class _State:
    """The state of one choice."""

    __slots__ = ("calls", "finish_chunk", "finish_reason", "has_content", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.has_content = False
        self.calls = ToolCalls()
        self.finish_reason: str | None = None
        self.finish_chunk: Any = None


class OpenAIStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self) -> None:
        self.malformed = 0
        self.has_finished = False
        self._choices: dict[int, _State] = {}
        self._model: str | None = None
        self._usage = b"null"
        self._goes_on = False
        self._is_over = False

    @property
    def has_usage(self) -> bool:
        """See `StreamDecoder`."""
        return self._usage != b"null"

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        if not event.is_framed:
            failure = unframed_failure(event.data)
            return [] if failure is None else self._fail(failure)
        try:
            chunk = decode(_CHUNK, event.data)
        except msgspec.ValidationError as err:
            return self._misshapen(event, err)
        except NOT_JSON:
            return self._unusual(event)
        if chunk.error or event.event == "error":
            return self._fail(named_failure(event.data))
        items: list[StreamItem] = []
        model = chunk.model
        if model and model != self._model and isinstance(model, str):
            self._model = model
            items.append(StreamModel(name=model))
        if chunk.usage is not _NULL or chunk.x_groq is not None:
            self._add_usage(chunk, items)
        if chunk.choices:
            if len(chunk.choices) > MAX_CHOICES:
                return self._fail(malformed("choices", f"holds more than {MAX_CHOICES}"))
            for choice in chunk.choices:
                try:
                    delta = self._choice(choice, chunk.id)
                except UpstreamFailure as failure:
                    return items + self._fail(failure)
                if delta is not None:
                    items.append(delta)
        elif not items:
            return self._error_object(event.data)
        return items

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly."""
        states = self._choices.values()
        if self._is_over or not states or any(state.finish_reason is None for state in states):
            return []
        return self._end()

    def _choice(self, wire: _WireChoice, chunk_id: Any) -> ChoiceDelta | None:
        if wire.error:
            raise stream_failure(wire.error)
        index = wire.index or 0
        if not 0 <= index <= _LARGEST_INDEX:
            raise malformed("choices[].index", "is out of range")
        state = self._choices.get(index)
        role = None
        if state is None:
            state = self._choices[index] = _State(index)
            self.has_finished = False
            role = "assistant"
        delta = wire.delta or wire.message
        had_finished = state.finish_reason is not None
        if had_finished and chunk_id != state.finish_chunk:
            # A second answer spliced on: its text belongs to nobody's question.
            return None
        if wire.finish_reason and (finish_reason := finish_of(wire.finish_reason)):
            state.finish_reason = finish_reason
            state.finish_chunk = chunk_id
            self.has_finished = not self._goes_on and all(
                each.finish_reason for each in self._choices.values()
            )
        if delta is None:
            return ChoiceDelta(index=index, role=role) if role else None
        content = delta.content or None
        reasoning = delta.reasoning or delta.reasoning_content
        if content.__class__ is list:
            content, thought = text_of(content)
            reasoning = reasoning or thought
        details = delta.reasoning_details
        calls = delta.tool_calls
        if delta.function_call is not None:
            calls = [WireCall(index=0, function=delta.function_call)]
        extra = _extra(delta) if delta.annotations or delta.audio or delta.images else None
        if not (content or reasoning or details or calls or delta.refusal or extra or role):
            return None
        result = ChoiceDelta(
            index=index,
            role=role,
            content=content,  # type: ignore[arg-type]  # lists were turned into text
            reasoning=reasoning if isinstance(reasoning, str) and reasoning else None,
            reasoning_details=details_of(details, "reasoning_details") if details else None,
            tool_calls=state.calls.add(calls) if calls else (),
            refusal=delta.refusal or None,
            extra=extra,
        )
        if not state.has_content:
            state.has_content = result.has_content
        if had_finished and result.has_content:
            self._goes_on = True
            self.has_finished = False
        return result

    def _add_usage(self, chunk: _Chunk, items: list[StreamItem]) -> None:
        raw = bytes(chunk.usage)
        if raw == b"null" and isinstance(chunk.x_groq, dict):
            # Groq's own place for it, filled also when nobody asked.
            raw = msgspec.json.encode(chunk.x_groq.get("usage"))
        if raw in (b"null", self._usage):
            return
        self._usage = raw
        usage = usage_of(raw, chunk.service_tier)
        if usage is not None:
            items.append(usage)

    def _misshapen(self, event: SSEEvent, err: msgspec.ValidationError) -> list[StreamItem]:
        """Handle JSON that has not the form of a chunk: what it would have added is lost, so the answer is."""
        if event.data.strip() == b"[DONE]":
            return self._done()
        if failed := self._error_object(event.data):
            return failed
        if event.event == "error":
            return self._fail(named_failure(event.data))
        if is_other_than_object(err) or str(err).endswith("`$.choices`"):
            # Nothing that could be a part of an answer.
            self.malformed += 1
            return []
        return self._fail(malformed_failure(err))

    def _unusual(self, event: SSEEvent) -> list[StreamItem]:
        """Handle data that is not a chunk: the end marker, an error, several lines at once, or nonsense."""
        data = event.data.strip()
        if data == b"[DONE]":
            return self._done()
        if failed := self._error_object(data):
            return failed
        if event.event == "error" and data:
            return self._fail(named_failure(data))
        lines = data.split(b"\n")
        if len(lines) > 1:
            # Servers that forget the blank line between events.
            return [item for line in lines for item in self.feed(SSEEvent(None, line))]
        if data:
            self.malformed += 1
        return []

    def _error_object(self, data: bytes) -> list[StreamItem]:
        failure = error_of_json(data)
        return self._fail(failure) if failure is not None else []

    def _done(self) -> list[StreamItem]:
        states = self._choices.values()
        if not states or any(
            state.finish_reason is None and not state.has_content for state in states
        ):
            self._is_over = True
            return []
        for state in states:
            if state.finish_reason is None:
                state.finish_reason = "tool_calls" if state.calls else "stop"
        return self._end()

    def _end(self) -> list[StreamItem]:
        self._is_over = True
        items: list[StreamItem] = [
            ChoiceDelta(
                index=state.index,
                tool_calls=state.calls.end(),
                finish_reason=state.finish_reason,
            )
            for state in self._choices.values()
        ]
        items.append(StreamEnd())
        return items

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]


def _extra(delta: WireMessage) -> JsonObject:
    extra = {key: value for key in STREAMED_EXTRAS if (value := getattr(delta, key))}
    check_depth(extra, "delta")
    return extra
