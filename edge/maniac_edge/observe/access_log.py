"""The access log: one line per request, JSON or pretty."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any, TextIO

import msgspec
from maniac_common.logs import LogFormat, is_pretty, utc

from maniac_edge.context import RequestContext

_encode = msgspec.json.Encoder().encode


_GATHER_S = 0.02
PROBES = frozenset({"/healthz", "/readyz"})


class AccessLog:
    """Writes one line per request. It never holds a key, a prompt or a query string."""

    def __init__(self, log_format: LogFormat, stream: TextIO) -> None:
        self._stream = stream
        self._pretty = is_pretty(log_format, stream)
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def write(self, method: str, context: RequestContext) -> None:
        """Log a request that has ended. Probes may come every second and are not logged."""
        if context.path in PROBES:
            return
        duration_ms = round((time.perf_counter() - context.started) * 1000, 2)
        # Nobody saw a status if the client left first; 499 is what other servers log then.
        status = 499 if context.client_gone else context.status
        if self._pretty:
            line = self._pretty_line(method, status, duration_ms, context)
        else:
            record: dict[str, Any] = {
                "time": utc(time.time()),
                "level": "info",
                "event": "request",
                "method": method,
                "path": context.shown_path,
                "status": status,
                "duration_ms": duration_ms,
                "request_id": context.request_id,
                "streamed": context.streamed,
                "bytes": context.sent_bytes,
            }
            if context.error_code:
                record["error"] = context.error_code
            line = _encode(record).decode()
        if not self._lines:
            # A write costs more than a line: those of a moment leave together.
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_later(_GATHER_S, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def _pretty_line(
        self, method: str, status: int, duration_ms: float, context: RequestContext
    ) -> str:
        notes = [note for note in (context.streamed and "streamed", context.error_code) if note]
        return (
            f"{datetime.now().astimezone():%H:%M:%S} {status} {method} {context.shown_path}"
            f" {duration_ms:.1f}ms {context.sent_bytes}B {' '.join([*notes, context.request_id])}"
        )
