"""Gemini's event streams to stream items."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import ChoiceDelta
from maniac_core.providers.base import (
    StreamEnd,
    StreamError,
    StreamItem,
    StreamModel,
    UpstreamFailure,
)
from maniac_core.providers.gemini.answer import CandidateState, GeminiChunk, index_of, usage_of
from maniac_core.providers.gemini.errors import failure_of_event
from maniac_core.providers.translation.counts import token_count
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)
from maniac_core.providers.transport.sse import SSEEvent

_CHUNK = msgspec.json.Decoder(GeminiChunk)


class GeminiStreamDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    def __init__(self) -> None:
        self.malformed = 0
        self._candidates: dict[int, CandidateState] = {}
        self._model: str | None = None
        self._response_id: Any = None
        self._usage = b"null"
        self.has_usage = False
        """See `StreamDecoder`. Before the last chunk Vertex AI sends usage without counts."""
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

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event."""
        if self._is_over:
            return []
        if not event.is_framed:
            failure = failure_of_event(event)
            return [] if failure is None else self._fail(failure)
        try:
            chunk = decode(_CHUNK, event.data)
        except msgspec.ValidationError as err:
            if is_other_than_object(err):
                return self._unreadable(event)
            return self._fail(failure_of_event(event) or malformed_failure(err))
        except NOT_JSON:
            return self._unreadable(event)
        if chunk.error or not (chunk.candidates or chunk.is_blocked):
            failure = failure_of_event(event)
            if failure is not None:
                return self._fail(failure)
        items: list[StreamItem] = []
        if chunk.model and chunk.model != self._model:
            self._model = chunk.model
            items.append(StreamModel(name=chunk.model))
        self._response_id = self._response_id or chunk.responseId
        self._add_usage(chunk.usageMetadata, items)
        for position, candidate in enumerate(chunk.candidates or ()):
            state = self._state(index_of(candidate, position))
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

    def _unreadable(self, event: SSEEvent) -> list[StreamItem]:
        failure = failure_of_event(event)
        if failure is not None:
            return self._fail(failure)
        # Half an event at the end of the bytes is a cut, which the missing end tells.
        if event.complete and event.data.strip() not in (b"", b"[DONE]"):
            self.malformed += 1
        return []

    def _add_usage(self, raw: msgspec.Raw, items: list[StreamItem]) -> None:
        """Counts come on every chunk, and go on from the start."""
        data = bytes(raw)
        if data == self._usage:
            return
        self._usage = data
        counts = loose_object(data)
        usage = usage_of(counts)
        if usage is not None:
            total = token_count(counts.get("totalTokenCount"))
            self.has_usage = bool(usage.completion_tokens or total)
            items.append(usage)

    def _state(self, index: int) -> CandidateState:
        return self._candidates.setdefault(index, CandidateState(index))

    def _fail(self, failure: UpstreamFailure) -> list[StreamItem]:
        self._is_over = True
        return [StreamError(failure=failure)]
