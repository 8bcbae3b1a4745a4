"""Pacing: what reads or deletes much works in small pieces, and stays away between them, so that completions go first."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Rests as long as the last piece of work took, times `share`."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._began = time.monotonic()

    def begin(self) -> None:
        """Begin a piece of work; what came before is not counted."""
        self._began = time.monotonic()

    async def rest(self) -> None:
        """End a piece of work, rest, and begin the next one."""
        await asyncio.sleep((time.monotonic() - self._began) * self._share)
        self.begin()
