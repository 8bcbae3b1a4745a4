"""Models as labels of metrics. No label holds what a caller can choose freely, so unknown names share one."""

from __future__ import annotations

from collections.abc import Callable

OTHER = "_OTHER"
# A provider that answers to every name makes no more series than this.
_MAX_UNKNOWN_MODELS = 200


class ModelLabels:
    """Tells which models have a label of their own: those that are known, and those that have answered."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        """`knows`: whether a model's slug is known without a caller having named it."""
        self._knows = knows
        self._answered: set[str] = set()

    def label(self, slug: str | None, *, is_answer: bool = False) -> str:
        """Return the label of a model, "" for none. `is_answer`: it has just answered."""
        if slug is None:
            return ""
        if slug in self._answered or self._knows(slug):
            return slug
        if is_answer and len(self._answered) < _MAX_UNKNOWN_MODELS:
            self._answered.add(slug)
            return slug
        return OTHER
