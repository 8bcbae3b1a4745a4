"""Quantiles and slopes of samples."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which that share (0..1) of them lies; 0 without samples."""
    if not samples:
        return 0.0
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of (x, y): one odd sample does not move it.

    Raises:
        ValueError: fewer than two different x.
    """
    slopes = [
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] > a[0]
    ]
    if not slopes:
        raise ValueError("a slope needs two points")
    return statistics.median(slopes)
