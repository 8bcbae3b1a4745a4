"""An OTLP collector that keeps what it is sent, for a test to wait for."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span:
    """A span as it came, with the name of its service and its attributes as plain values."""

    def __init__(self, service: str, span: Any) -> None:
        self.service = service
        self.name: str = span.name
        self.trace_id: str = span.trace_id.hex()
        self.id: str = span.span_id.hex()
        self.parent_id: str = span.parent_span_id.hex()
        self.kind: int = span.kind
        self.is_error: bool = span.status.code == 2
        self.attributes = {pair.key: _value(pair.value) for pair in span.attributes}
        self.events = {
            event.name: {pair.key: _value(pair.value) for pair in event.attributes}
            for event in span.events
        }


class Collector:
    """Listens from construction to `stop`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        """Everything that came, undecoded."""
        self._came = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector._take(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What goes into OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, trace_id: str, count: int) -> list[Span]:
        """Return the spans of a trace, parents before children, once there are so many."""

        def found() -> list[Span]:
            return [span for span in self.spans if span.trace_id == trace_id]

        with self._came:
            assert self._came.wait_for(lambda: len(found()) >= count, 20), found()
            by_id = {span.id: span for span in found()}

        def depth(span: Span) -> int:
            parent = by_id.get(span.parent_id)
            return 0 if parent is None else 1 + depth(parent)

        return sorted(by_id.values(), key=depth)

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.bodies.append(body)
            for resource in request.resource_spans:
                names = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [Span(names["service.name"], span) for span in scope.spans]
            self._came.notify_all()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)
