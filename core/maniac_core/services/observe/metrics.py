"""Metrics of completions, for Prometheus; loaded only where a listener is configured.

Names are those of OpenTelemetry's conventions for generative AI where there is one. Every completion is counted once, on
the way of its record to the database. No label holds what a caller can choose freely.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

from maniac_common.telemetry import metrics_address
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, start_http_server

from maniac_core.domain.completions import Attempt, CompletionRecord
from maniac_core.services.capture.attempt_log import error_code
from maniac_core.services.capture.spool import Recorder, Spool
from maniac_core.services.chat.attempts import Runner
from maniac_core.services.limits.rate_limiter import RateLimiter, Windows
from maniac_core.services.observe.gauges import CoreCollector
from maniac_core.services.observe.model_labels import OTHER, ModelLabels
from maniac_core.services.observe.tallies import Distribution, Tally
from maniac_core.storage.base import Database

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0),
)
_COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_TOKENS = tuple([4**power for power in range(14)])
_OPERATION = "chat"
_CALL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_response_model")


class Metrics:
    """The registry of a core, and the listener that shows it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._close: Callable[[], None] | None = None

    def recorder(self, inner: Recorder, models: ModelLabels) -> Recorder:
        """Return a Recorder that measures what passes."""
        return _MeteredRecorder(inner, self._registry, models)

    def watch(
        self,
        *,
        models: ModelLabels,
        runner: Runner,
        limiter: RateLimiter,
        windows: Windows,
        spool: Spool,
        database: Database,
    ) -> None:
        """Show what these parts count. To be called on their event loop."""
        self._registry.register(
            CoreCollector(
                asyncio.get_running_loop(),
                models=models,
                runner=runner,
                limiter=limiter,
                windows=windows,
                spool=spool,
                database=database,
            )
        )

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

    async def aclose(self) -> None:
        """Stop listening. A second time does nothing."""
        close, self._close = self._close, None
        if close is not None:
            await asyncio.to_thread(close)


class _MeteredRecorder:
    """A Recorder that measures what passes."""

    def __init__(self, inner: Recorder, registry: CollectorRegistry, models: ModelLabels) -> None:
        self._inner = inner
        self._models = models
        self._duration = Distribution(
            "gen_ai_server_request_duration_seconds",
            "From a completion's receipt by the core to the end of its answer.",
            (*_CALL, "error_type"),
            bounds=_SECONDS,
            registry=registry,
        )
        self._first_token = Distribution(
            "gen_ai_server_time_to_first_token_seconds",
            "From a streamed completion's receipt by the core to its first content.",
            _CALL,
            bounds=_FIRST_TOKEN_S,
            registry=registry,
        )
        self._tokens = Distribution(
            "gen_ai_client_token_usage",
            "Tokens of a completion, all of its attempts together.",
            (*_CALL, "gen_ai_token_type"),
            bounds=_TOKENS,
            registry=registry,
        )
        self._attempt_duration = Distribution(
            "gen_ai_client_operation_duration_seconds",
            "Duration of a call of a provider.",
            (
                "gen_ai_operation_name",
                "gen_ai_provider_name",
                "gen_ai_request_model",
                "error_type",
            ),
            bounds=_SECONDS,
            registry=registry,
        )
        self._completions = Tally(
            "maniac_completions",
            "Completions by how they ended.",
            ("status", "streamed", "error_type"),
            registry=registry,
        )
        self._attempts = Tally(
            "maniac_upstream_attempts",
            "Calls of providers by how they ended; those that were skipped as well.",
            ("gen_ai_provider_name", "outcome"),
            registry=registry,
        )
        self._details = Tally(
            "maniac_token_details",
            "Of the tokens, those with a price of their own.",
            (*_CALL, "detail"),
            registry=registry,
        )
        self._spend = Tally(
            "maniac_spend_usd", "What completions cost, in USD.", _CALL, registry=registry
        )
        self._unpriced = Tally(
            "maniac_unpriced_completions",
            "Completions that used tokens of an unknown price.",
            registry=registry,
        )
        self._commit = Distribution(
            "maniac_capture_duration_seconds",
            "From the hand-over of a record until it is committed, or in the spool.",
            bounds=_COMMIT_S,
            registry=registry,
        )
        self._waiting = 0
        Gauge(
            "maniac_captures_pending", "Records that wait for their commit.", registry=registry
        ).set_function(lambda: self._waiting)
        self._lost = Tally(
            "maniac_captures_failed", "Records that could not be kept.", registry=registry
        )

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record."""
        self._observe(record)
        kept = self._inner.capture(record)
        self._waiting += 1
        kept.add_done_callback(functools.partial(self._settled, time.perf_counter()))
        return kept

    def _settled(self, started: float, kept: asyncio.Future[None]) -> None:
        self._waiting -= 1
        if kept.cancelled() or kept.exception() is not None:
            self._lost.add()
        else:
            self._commit.observe((), time.perf_counter() - started)

    def _observe(self, record: CompletionRecord) -> None:
        is_answer = record.status in ("completed", "truncated")
        error_type = error_code(record.error_reason)
        if record.status == "cancelled":
            error_type = "cancelled"
        call = (
            _OPERATION,
            record.provider or "",
            self._models.label(record.model, is_answer=is_answer),
        )
        self._duration.observe((*call, error_type), record.latency_us / 1e6)
        streamed = "true" if record.streamed else "false"
        self._completions.add((record.status, streamed, error_type))
        if record.streamed and record.time_to_first_token_us is not None:
            self._first_token.observe(call, record.time_to_first_token_us / 1e6)
        self._observe_usage(record, call)
        for attempt in record.attempts:
            self._observe_attempt(attempt)

    def _observe_usage(self, record: CompletionRecord, call: tuple[str, str, str]) -> None:
        usage = record.usage
        if not usage.total_tokens:
            return
        self._tokens.observe((*call, "input"), usage.prompt_tokens)
        self._tokens.observe((*call, "output"), usage.completion_tokens)
        for detail, count in (
            ("cache_read", usage.cache_read_tokens),
            ("cache_write", usage.cache_write_tokens + usage.cache_write_1h_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if count:
                self._details.add((*call, detail), count)
        if record.spend_nano_usd is None:
            self._unpriced.add()
        else:
            self._spend.add(call, record.spend_nano_usd / 1e9)

    def _observe_attempt(self, attempt: Attempt) -> None:
        self._attempts.add((attempt.provider, attempt.outcome))
        if attempt.outcome == "skipped":
            return
        slug = f"{attempt.provider}/{attempt.model}"
        known = self._models.label(slug, is_answer=attempt.outcome == "ok")
        error = "cancelled" if attempt.outcome == "cancelled" else error_code(attempt.error_reason)
        model = OTHER if known == OTHER else attempt.model
        self._attempt_duration.observe(
            (_OPERATION, attempt.provider, model, error), attempt.latency_us / 1e6
        )
