"""Values that a core has anyway, read when Prometheus asks; loaded only if a listener is configured."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from maniac_core.services.capture.spool import Spool
from maniac_core.services.chat.attempts import Runner
from maniac_core.services.chat.breaker import BreakerState
from maniac_core.services.limits.rate_limiter import RateLimiter, Windows
from maniac_core.services.limits.redis_windows import RedisWindows
from maniac_core.services.observe.model_labels import OTHER, ModelLabels
from maniac_core.storage.base import Database, StorageError

# From the best to the worst: models that share a label show the worst.
_STATES: tuple[BreakerState, ...] = ("closed", "half_open", "open")
_DATABASE_S = 2.0


class CoreCollector(Collector):
    """Reads the parts of a core that lives on `loop`, from the thread of the listener."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        models: ModelLabels,
        runner: Runner,
        limiter: RateLimiter,
        windows: Windows,
        spool: Spool,
        database: Database,
    ) -> None:
        self._loop = loop
        self._models = models
        self._runner = runner
        self._limiter = limiter
        self._windows = windows
        self._spool = spool
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield what there is now."""
        yield from self._breakers()
        yield from self._limits()
        yield from self._storage()

    def _breakers(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "maniac_breaker_state",
            "1 for the state of a circuit breaker: of a model that has failed, or, without a model, of a provider.",
            labels=("gen_ai_provider_name", "gen_ai_request_model", "state"),
        )
        for provider, breakers in self._runner.breakers.items():
            worst: dict[str, BreakerState] = {}
            for model, state in breakers.states():
                label = model
                if model and self._models.label(f"{provider}/{model}") == OTHER:
                    label = OTHER
                worst[label] = max(state, worst.get(label, "closed"), key=_STATES.index)
            for label, state in worst.items():
                for each in _STATES:
                    family.add_metric((provider, label, each), float(each == state))
        yield family

    def _limits(self) -> Iterator[Metric]:
        limiter, windows = self._limiter, self._windows
        refused = CounterMetricFamily(
            "maniac_rate_limit_refusals", "Requests that a rate limit refused.", labels=("unit",)
        )
        refused.add_metric(("requests",), limiter.refused_requests)
        refused.add_metric(("tokens",), limiter.refused_tokens)
        yield refused
        redis = windows if isinstance(windows, RedisWindows) else None
        yield CounterMetricFamily(
            "maniac_redis_uncounted_requests",
            "Requests that were let through because Redis could not be asked.",
            value=redis.uncounted if redis is not None else 0,
        )
        yield GaugeMetricFamily(
            "maniac_redis_paused",
            "Whether Redis has failed, so that rate limits are not enforced.",
            value=float(redis is not None and redis.is_paused),
        )

    def _storage(self) -> Iterator[Metric]:
        database, spool = self._database, self._spool
        yield CounterMetricFamily(
            "maniac_spooled_records",
            "Records that went to the spool because the database did not take them.",
            value=spool.spooled,
        )
        yield CounterMetricFamily(
            "maniac_replayed_records",
            "Records of the spool that are in the database by now.",
            value=spool.replayed,
        )
        yield GaugeMetricFamily(
            "maniac_set_aside_records",
            "Records that the database refuses, and that lie in the spool's folder for the operator.",
            value=spool.set_aside,
        )
        yield CounterMetricFamily(
            "maniac_database_commits", "Transactions that were committed.", value=database.commits
        )
        yield GaugeMetricFamily(
            "maniac_database_readers",
            "How many reads of the database can run at a time.",
            value=database.readers,
        )
        yield GaugeMetricFamily(
            "maniac_database_reads",
            "Reads of the database that run or wait for their turn.",
            value=database.reads,
        )
        yield GaugeMetricFamily(
            "maniac_database_up",
            "Whether the database answered a read within two seconds.",
            value=float(self._is_database_up()),
        )

    def _is_database_up(self) -> bool:
        answer = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            # A little longer than the read may take: the loop may be busy.
            return answer.result(2 * _DATABASE_S)
        except TimeoutError:
            answer.cancel()
            return False

    async def _read(self) -> bool:
        try:
            async with asyncio.timeout(_DATABASE_S):
                await self._database.fetch_all("read_cache_versions")
        except (StorageError, TimeoutError):
            return False
        return True
