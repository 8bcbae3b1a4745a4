"""One log line per completion: what it used and cost, and whose key asked. Never a prompt, an answer or a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from maniac_core.domain.budgets import NANO_PER_USD
from maniac_core.domain.completions import CompletionRecord
from maniac_core.services.capture.completion_lines import CompletionLine
from maniac_core.services.capture.spool import Recorder

Write = Callable[[list[tuple[float, CompletionLine]]], None]
"""Writes lines, each with its Unix time."""

_GATHER_S = 0.02
_LONGEST_NAME = 256


class LoggedRecorder:
    """A Recorder that has a line written for each record that passes."""

    def __init__(self, inner: Recorder, write: Write) -> None:
        self._inner = inner
        self._write = write
        self._lines: list[tuple[float, CompletionLine]] = []

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record, and log it a moment later: a write costs more than a line, so lines leave together."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_GATHER_S, self.flush)
        self._lines.append((time.time(), _line(record)))
        return self._inner.capture(record)

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._write(lines)


def _line(record: CompletionRecord) -> CompletionLine:
    usage, spend, reason = record.usage, record.spend_nano_usd, record.error_reason
    return CompletionLine(
        request_id=record.request_id,
        completion=record.id,
        status=record.status,
        # A name that no model has is the caller's, of any length.
        model=(record.model or record.requested_model)[:_LONGEST_NAME],
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=None if spend is None else spend / NANO_PER_USD,
        key=record.caller.key_name,
        duration_ms=record.latency_us / 1000,
        error=reason.lower() if reason else None,
    )
