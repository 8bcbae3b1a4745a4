"""Metrics of the edge, for Prometheus; loaded only where a listener is configured.

Names are those of OpenTelemetry's conventions for HTTP servers where there is one. No label holds what a client can
choose freely.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterator

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from maniac_common.telemetry import metrics_address
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from maniac_edge.context import RequestContext
from maniac_edge.core.links import CoreLinks
from maniac_edge.observe.http_attributes import method_of, route_of, status_of

_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 120.0),
)


class Metrics:
    """The registry of an edge, and the listener that shows it."""

    def __init__(self, links: CoreLinks) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_LinkCollector(links))
        duration = Histogram(
            "http_server_request_duration_seconds",
            "From the head of a request to the end of its answer.",
            ("http_request_method", "http_route", "http_response_status_code", "error_type"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        # Remembered: looking the labels up costs more than what is done then.
        self._duration = functools.cache(duration.labels)
        self._active = Gauge(
            "http_server_active_requests",
            "Requests that are being answered.",
            registry=self._registry,
        )
        self._close: Callable[[], None] | None = None

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app with its requests measured; RequestMiddleware is to be around it."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            self._active.inc()
            try:
                await app(scope, receive, send)
            finally:
                self._active.dec()
                context: RequestContext = scope["state"]["context"]
                self._duration(
                    method_of(scope, context), route_of(scope), *status_of(context)
                ).observe(time.perf_counter() - context.started)

        return measured

    def listen(self, address: str) -> None:
        """Answer scrapes in a thread of its own, so that they are answered when the event loop is busy, too.

        Raises:
            OSError: the address cannot be listened on.
        """
        host, port = metrics_address(address)
        try:
            server, thread = start_http_server(port, host, self._registry)
        except OSError as err:
            raise OSError(f"cannot listen on {address} for metrics: {err.strerror}") from err

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._close = close

    async def close(self) -> None:
        """Stop listening."""
        if self._close is not None:
            await asyncio.to_thread(self._close)


class _LinkCollector(Collector):
    """Reads the links to the cores when Prometheus asks."""

    def __init__(self, links: CoreLinks) -> None:
        self._links = links

    def collect(self) -> Iterator[Metric]:
        """Yield what there is now."""
        yield GaugeMetricFamily(
            "maniac_cores_connected",
            "Cores that this edge can give completions to.",
            value=self._links.connected,
        )
        yield GaugeMetricFamily(
            "maniac_relay_calls",
            "Completions that run on the links to the cores.",
            value=self._links.running,
        )
