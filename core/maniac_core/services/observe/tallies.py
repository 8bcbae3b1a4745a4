"""Counters and histograms that one event loop counts and another thread reads; loaded only if a listener is configured.

Those of `prometheus_client` take a lock for every bucket and sum, as any thread may count with them. Here only the event
loop does, so that plain numbers are enough; a page may show a request in one sum and not yet in another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally(Collector):
    """A counter, by label values."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._about = name, documentation
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}
        registry.register(self)

    def add(self, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Count."""
        values = self._values
        values[labels] = values.get(labels, 0) + amount

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        yield family


class Distribution(Collector):
    """A histogram, by label values."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """`bounds`: the upper bounds of the buckets, in order; above the last there is one more."""
        self._about = name, documentation
        self._labels = labels
        self._bounds = bounds
        self._names = [floatToGoString(bound) for bound in (*bounds, float("inf"))]  # type: ignore[no-untyped-call]
        self._counts: dict[tuple[str, ...], list[float]] = {}
        """The sum, and after it how many observations each bucket has."""
        if not labels:
            self._counts[()] = self._nothing()
        registry.register(self)

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        """Add an observation."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = self._nothing()
        counts[0] += value
        counts[bisect_left(self._bounds, value) + 1] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield what was observed."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, counts in list(self._counts.items()):
            total, *buckets = counts
            family.add_metric(
                labels, list(zip(self._names, accumulate(buckets), strict=True)), total
            )
        yield family

    def _nothing(self) -> list[float]:
        return [0] * (len(self._bounds) + 2)
