"""Answers that this core can repeat although nothing of them is stored: those of `store: false` requests."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from maniac_core.domain.chat import Completion

MAX_BYTES = 64 * 1024 * 1024
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Completion).decode


class RememberedAnswers:
    """The latest answers by id, of `max_bytes` together at most."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._answers: OrderedDict[str, bytes] = OrderedDict()

    def add(self, completion: Completion) -> None:
        """Remember an answer; the oldest are forgotten for it."""
        text = _encode(completion)
        self._answers[completion.id] = text
        self.size_bytes += len(text)
        while self.size_bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.size_bytes -= len(oldest)

    def get(self, completion_id: str) -> Completion | None:
        """Return an answer, if it is still remembered."""
        text = self._answers.get(completion_id)
        return None if text is None else _decode(text)
