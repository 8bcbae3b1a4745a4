"""Traces for an OTLP collector; loaded only where OpenTelemetry's variables ask for them.

A completion is a span under the caller's, or the edge's, and every call of a provider is one under that. They hold models,
counts and reasons; never a prompt, an answer, a key or a message of an error.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
import time
from collections.abc import Sequence

from maniac_core.config.core import ConfigError
from maniac_core.domain.chat import ChatRequest
from maniac_core.domain.completions import Attempt, CompletionRecord
from maniac_core.services.capture.attempt_log import Spans, error_code
from maniac_core.services.capture.capture import Call
from maniac_core.services.routing.planner import Step

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise ConfigError(
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; "
        ".venv/bin/pip install '.[otel]', or set OTEL_SDK_DISABLED=true"
    ) from None

_log = logging.getLogger(__name__)
_SERVICE = "maniac-gateway-core"
_FLUSH_S = 3.0
# Of a name that a caller can choose.
_MAX_NAME = 256
_w3c = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans, and exports them from a thread of its own."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("maniac_core")
        self._outage = _Outage()
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(self._outage)))
        self._is_closed = False
        # The exporter's message about every batch.
        library = logging.getLogger("opentelemetry")
        library.addHandler(self._outage)
        library.propagate = False

    def spans(self, call: Call, request: ChatRequest) -> Spans:
        """Begin the span of a completion."""
        return _CompletionSpans(self._tracer, call, request)

    async def aclose(self) -> None:
        """Export what waits, for three seconds at most. A second time does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        # Of a daemon, so that a collector that does not answer holds up no exit.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _FLUSH_S)


class _CompletionSpans:
    """The spans of one completion; implements `Spans`."""

    def __init__(self, tracer: Tracer, call: Call, request: ChatRequest) -> None:
        self._tracer = tracer
        # Shared with the prompts of the request, so that each attempt is sent with its own span.
        self._headers = call.headers
        model = (request.model or next(iter(request.fallbacks), ""))[:_MAX_NAME]
        self._span = tracer.start_span(
            f"chat {model}".rstrip(),
            context=_w3c.extract(call.headers),
            kind=SpanKind.SERVER,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": model,
                "maniac.request_id": call.request_id,
            },
        )
        self._context: Context = set_span_in_context(self._span)
        self._running: Span | None = None
        self._ended: list[tuple[Span, Attempt, int]] = []

    def begin(self, step: Step) -> None:
        """An attempt starts; what is sent from now on is under its span."""
        model = step.candidate.model[:_MAX_NAME]
        self._running = self._tracer.start_span(
            f"chat {model}",
            context=self._context,
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": step.candidate.provider,
                "gen_ai.request.model": model,
            },
        )
        carrier: dict[str, str] = {}
        _w3c.inject(carrier, set_span_in_context(self._running))
        self._headers["traceparent"] = carrier["traceparent"]

    def end(self, attempt: Attempt) -> None:
        """The running attempt is over. One that was begun and not ended was not sent, and leaves no span."""
        if self._running is not None:
            self._ended.append((self._running, attempt, time.time_ns()))
            self._running = None

    def finish(self, record: CompletionRecord, kept: asyncio.Future[None]) -> None:
        """The completion is over; its own span ends when its record is kept."""
        for span, attempt, end_ns in self._ended:
            reasons = (record.finish_reason,) if attempt.outcome == "ok" else ()
            _describe_attempt(span, attempt, reasons)
            span.end(end_ns)
        kept.add_done_callback(functools.partial(self._finish, record))

    def _finish(self, record: CompletionRecord, kept: asyncio.Future[None]) -> None:
        span = self._span
        for attempt in record.attempts:
            if attempt.outcome == "skipped":
                span.add_event(
                    "maniac.attempt.skipped",
                    {
                        "gen_ai.provider.name": attempt.provider,
                        "gen_ai.request.model": attempt.model[:_MAX_NAME],
                        "error.type": error_code(attempt.error_reason),
                    },
                )
        _set(
            span,
            {
                "gen_ai.provider.name": record.provider,
                "gen_ai.response.model": record.model and record.model[:_MAX_NAME],
                "gen_ai.response.id": record.id,
                "gen_ai.usage.input_tokens": record.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": record.usage.completion_tokens,
                "maniac.container": record.container_label,
                "maniac.status": record.status,
            },
        )
        _finish_reasons(span, (record.finish_reason,))
        error_type = error_code(record.error_reason)
        if record.status == "cancelled":
            error_type = "cancelled"
        elif kept.cancelled() or kept.exception() is not None:
            error_type = error_type or "dependency_unavailable"
        _fail(span, error_type)
        span.end()


def _describe_attempt(span: Span, attempt: Attempt, reasons: Sequence[str | None]) -> None:
    usage, first_token_us = attempt.usage, attempt.time_to_first_token_us
    _set(
        span,
        {
            "http.response.status_code": attempt.http_status,
            "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
            "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
            "maniac.time_to_first_token_s": (
                None if first_token_us is None else first_token_us / 1e6
            ),
        },
    )
    _finish_reasons(span, reasons)
    _fail(
        span,
        "cancelled" if attempt.outcome == "cancelled" else error_code(attempt.error_reason),
    )


def _set(span: Span, attributes: dict[str, str | int | float | None]) -> None:
    """Set the attributes that have a value."""
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def _finish_reasons(span: Span, reasons: Sequence[str | None]) -> None:
    given = [reason for reason in reasons if reason is not None]
    if given:
        span.set_attribute("gen_ai.response.finish_reasons", given)


def _fail(span: Span, error_type: str) -> None:
    if error_type:
        span.set_attribute("error.type", error_type)
        span.set_status(Status(StatusCode.ERROR))


def _resource() -> Resource:
    # The name is ours unless the operator gave one.
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in given:
        return Resource.create()
    return Resource.create({"service.name": _SERVICE})


class _Outage(logging.Handler):
    """Tells of a collector that cannot be reached once, not with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._is_told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take what the library logs."""
        if not self._is_told and record.levelno >= logging.WARNING:
            self._is_told = True
            _log.warning("traces are not exported: %s", record.getMessage())

    def over(self) -> None:
        """Spans were exported."""
        if self._is_told:
            self._is_told = False
            _log.warning("traces are exported again")


class _Exporter(OTLPSpanExporter):
    """Notes what could be exported."""

    def __init__(self, outage: _Outage) -> None:
        super().__init__()
        self._outage = outage

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._outage.over()
        return result
