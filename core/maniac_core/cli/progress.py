"""A progress bar on a terminal; elsewhere nothing is shown."""

from __future__ import annotations

import time
from typing import TextIO

_INTERVAL_S = 0.1
_WIDTH = 30


class Progress:
    """One line that is drawn over and over. `total`: what `done` will reach; None: unknown."""

    def __init__(self, stream: TextIO, total: int | None, *, noun: str = "examples") -> None:
        self._stream = stream
        self._total = total
        self._noun = noun
        self._is_shown = stream.isatty()
        self._drawn = 0.0
        self._started = time.monotonic()

    def show(self, done: int, items: int) -> None:
        """Draw, if it is time to: how much is done, and how many items that were."""
        if self._is_shown and time.monotonic() - self._drawn >= _INTERVAL_S:
            self._draw(done, items)

    def end(self, done: int, items: int) -> None:
        """Draw for the last time."""
        if self._is_shown:
            self._draw(done, items)
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self, done: int, items: int) -> None:
        self._drawn = time.monotonic()
        rate = items / max(self._drawn - self._started, 0.001)
        bar = ""
        if self._total is not None:
            share = min(1.0, done / self._total) if self._total else 1.0
            filled = int(share * _WIDTH)
            bar = f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {share:4.0%}  "
        # \x1b[K clears what is left of a longer line.
        self._stream.write(f"\r{bar}{items:,} {self._noun}, {rate:,.0f}/s\x1b[K")
        self._stream.flush()
