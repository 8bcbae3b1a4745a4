"""Circuit breaker: stops calling what keeps failing, and lets single probes find out when it is back."""

from __future__ import annotations

import logging
import time
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]

_log = logging.getLogger(__name__)
_THRESHOLD = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 10.0


class Breaker:
    """State of one upstream: closed, open (all calls refused) or half-open (a probe is under way).

    It opens after 5 failures in a row and pauses 1 s, then twice as long after each failed probe, 10 s at most. A
    probe that has said nothing for 10 s is no longer waited for: another one may go.

    A permit to call is given back through exactly one of `succeeded`, `failed` and `abandoned`. What a call that was
    let in before the last change of state has to report is old news, and ignored.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._open_until: float | None = None
        self._is_probing = False
        self._permit = 0
        # Probes of the present pause have permits from this one on.
        self._first_probe = 1

    @property
    def admits(self) -> bool:
        """Whether `enter` would give a permit now."""
        return self._open_until is None or time.monotonic() >= self._open_until

    def enter(self) -> int | None:
        """Ask for permission to call; return the permit, None if the upstream is paused."""
        if self._open_until is None:
            return self._permit
        now = time.monotonic()
        if now < self._open_until:
            return None
        self._is_probing = True
        self._open_until = now + _LONGEST_PAUSE_S
        self._permit += 1
        return self._permit

    @property
    def state(self) -> BreakerState:
        """The present state; an open breaker moves on to a probe when it is next asked."""
        if self._open_until is None:
            return "closed"
        return "half_open" if self._is_probing else "open"

    @property
    def retry_after_s(self) -> float:
        """Seconds until the next probe is allowed, if none succeeds before."""
        return max(0.0, (self._open_until or 0.0) - time.monotonic())

    def succeeded(self, permit: int) -> None:
        """The upstream answered, if only to refuse the request: it is alive."""
        if self._open_until is not None and permit >= self._first_probe:
            _log.warning("%s answers again and is called as before", self._name)
            self._is_probing = False
            self._open_until = None
            self._pause_s = _FIRST_PAUSE_S
            self._failures = 0
            self._permit += 1
        elif permit == self._permit:
            self._failures = 0

    def failed(self, permit: int, *, is_repeat: bool = False) -> None:
        """The upstream failed in a way that speaks against further calls.

        `is_repeat`: the same request has reported a failure before; it counts only for a probe.
        """
        if permit != self._permit:
            return
        if self._is_probing:
            self._pause(min(self._pause_s * 2, _LONGEST_PAUSE_S))
        elif not is_repeat:
            self._failures += 1
            if self._failures >= _THRESHOLD:
                _log.warning("%s failed %d times in a row and is paused", self._name, _THRESHOLD)
                self._pause(_FIRST_PAUSE_S)
                self._first_probe = self._permit + 1

    def abandoned(self, permit: int) -> None:
        """The call ended without an outcome. A probe is not repeated at once: callers may be in a hurry."""
        if permit == self._permit and self._is_probing:
            self._pause(self._pause_s)

    def _pause(self, pause_s: float) -> None:
        self._is_probing = False
        self._pause_s = pause_s
        self._open_until = time.monotonic() + pause_s
        self._permit += 1
