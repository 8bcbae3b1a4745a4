"""Traces for an OTLP collector; loaded only where OpenTelemetry's variables ask for them.

Each request is a span under the client's `traceparent`, if it brings one, and the core continues it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Sequence

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from maniac_common.config_file import ConfigError

from maniac_edge.context import RequestContext
from maniac_edge.observe.access_log import PROBES
from maniac_edge.observe.http_attributes import method_of, route_of, status_of

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise ConfigError(
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed; "
        ".venv/bin/pip install '.[otel]', or set OTEL_SDK_DISABLED=true"
    ) from None

_log = logging.getLogger(__name__)
_SERVICE = "maniac-gateway-edge"
_FLUSH_S = 3.0
_w3c = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans, and exports them from a thread of its own."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("maniac_edge")
        outage = _Outage()
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(outage)))
        # The exporter's message about every batch.
        library = logging.getLogger("opentelemetry")
        library.addHandler(outage)
        library.propagate = False

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with its requests traced; RequestMiddleware is to be around it."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP or scope["path"] in PROBES:
                await app(scope, receive, send)
                return
            context: RequestContext = scope["state"]["context"]
            span = self._start(scope, context)
            try:
                await app(scope, receive, send)
            finally:
                _finish(span, scope, context)

        return traced

    async def close(self) -> None:
        """Export what waits, for three seconds at most."""
        # Of a daemon, so that a collector that does not answer holds up no exit.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _FLUSH_S)

    def _start(self, scope: Scope, context: RequestContext) -> Span:
        method = method_of(scope, context)
        span = self._tracer.start_span(
            "HTTP" if method == "_OTHER" else method,
            context=_w3c.extract(dict(context.metadata)),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "url.path": context.shown_path,
                "url.scheme": scope["scheme"],
                "maniac.request_id": context.request_id,
            },
        )
        carrier: dict[str, str] = {}
        _w3c.inject(carrier, set_span_in_context(span))
        context.metadata = (
            *[pair for pair in context.metadata if pair[0] not in _w3c.fields],
            *carrier.items(),
        )
        return span


def _finish(span: Span, scope: Scope, context: RequestContext) -> None:
    status, error_type = status_of(context)
    route = route_of(scope)
    if route:
        span.set_attribute("http.route", route)
        span.update_name(f"{method_of(scope, context)} {route}")
    span.set_attribute("http.response.status_code", int(status))
    if error_type:
        span.set_attribute("error.type", error_type)
    if int(status) >= 500:
        # A client's mistake is not a server error.
        span.set_status(Status(StatusCode.ERROR))
    span.end()


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
