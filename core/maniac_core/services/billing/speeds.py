"""How fast models usually generate, learnt from the answers that pass: for those that nobody waited for.

What a provider generated of an answer that was given up before it came is not known; it is paid all the same.
"""

from __future__ import annotations

from maniac_core.services.routing.router import Candidate

USUAL = 100.0
"""Tokens a second of a model that has not answered yet."""
_FASTEST = 2_000.0
# Shorter answers say more of the way to the provider than of the model.
_LEAST_TOKENS = 16
_LEAST_S = 0.25
_WEIGHT = 0.1
_MOST_MODELS = 10_000


class Speeds:
    """Tokens a second, by model, in one core."""

    def __init__(self) -> None:
        self._speeds: dict[tuple[str, str], float] = {}

    def learn(self, candidate: Candidate, tokens: int, seconds: float) -> None:
        """Note a whole answer, with the time from when its request was sent."""
        if tokens < _LEAST_TOKENS or seconds < _LEAST_S:
            return
        model = candidate.provider, candidate.model
        if len(self._speeds) >= _MOST_MODELS:
            self._speeds.clear()
        speed = min(_FASTEST, tokens / seconds)
        known = self._speeds.get(model, speed)
        # The estimate must not be too low: one fast answer counts at once, slow ones little by little.
        self._speeds[model] = max(speed, known + _WEIGHT * (speed - known))

    def tokens(self, candidate: Candidate, seconds: float) -> int:
        """Return how many tokens the model has usually generated so long after it was asked."""
        speed = self._speeds.get((candidate.provider, candidate.model), USUAL)
        return int(speed * max(0.0, seconds))
