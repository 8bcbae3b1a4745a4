"""Gemini's event streams to stream items."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import ChoiceDelta, JsonObject
from maniac_core.providers.base import (
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.errors import stream_failure
from maniac_core.providers.gemini_answer import CandidateState, GeminiChunk, usage_of
from maniac_core.providers.gemini_errors import refine
from maniac_core.providers.sse import SSEEvent

_decode = msgspec.json.Decoder(GeminiChunk).decode


class GeminiStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self) -> None:
        self.malformed = 0
        self._candidates: dict[int, CandidateState] = {}
        self._model: str | None = None
        self._response_id: str | None = None
        self._usage: JsonObject | None = None
        self._goes_on = False
        self._is_over = False

    @property
    def has_finished(self) -> bool:
        """See `StreamDecoder`. Vertex AI may give every chunk a finish reason."""
        states = self._candidates.values()
        return (
            not self._goes_on
            and bool(states)
            and all(state.finish_reason is not None for state in states)
        )

    @property
    def has_usage(self) -> bool:
        """See `StreamDecoder`. Before the last chunk Vertex AI sends usage without counts."""
        usage = self._usage or {}
        return bool(usage.get("candidatesTokenCount") or usage.get("totalTokenCount"))

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        try:
            chunk = _decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Half an event at the end of the bytes is a cut, which the missing end tells.
            if event.complete and event.data.strip() not in (b"", b"[DONE]"):
                self.malformed += 1
            return []
        if chunk.error:
            return self._fail(refine(stream_failure(chunk.error), chunk.error))
        items: list[StreamItem] = []
        if chunk.modelVersion and chunk.modelVersion != self._model:
            self._model = chunk.modelVersion
            items.append(StreamModel(name=chunk.modelVersion))
        self._response_id = self._response_id or chunk.responseId
        if chunk.usageMetadata and chunk.usageMetadata != self._usage:
            # On every chunk, counted from the start.
            self._usage = chunk.usageMetadata
            items.append(usage_of(chunk.usageMetadata))
        for position, candidate in enumerate(chunk.candidates or ()):
            state = self._state(position if candidate.index is None else candidate.index)
            has_finished = state.finish_reason is not None
            try:
                deltas = state.add(candidate, self._response_id)
            except UpstreamFailure as failure:
                return items + self._fail(failure)
            self._goes_on |= has_finished and bool(deltas)
            items += deltas
        if chunk.is_blocked and not self._candidates:
            self._state(0).block()
        return items

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly."""
        states = self._candidates.values()
        if self._is_over or not states or any(state.finish_reason is None for state in states):
            return []
        self._is_over = True
        # Held back until here: calls may follow the chunk that says STOP.
        ends = [
            ChoiceDelta(index=state.index, finish_reason=state.finish_reason) for state in states
        ]
        return [*ends, StreamEnd()]

    def _state(self, index: int) -> CandidateState:
        return self._candidates.setdefault(index, CandidateState(index))

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]
