"""The keys of one provider, used in turn, with dead and limited ones left out for a while."""

from __future__ import annotations

import time

_DEAD_S = 300.0


class KeyRing:
    """Hands out keys round-robin. A provider without keys has one slot that holds None."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys: tuple[str | None, ...] = keys or (None,)
        self._blocked_until = [0.0] * len(self._keys)
        self._next = 0

    def take(self) -> tuple[int, str | None]:
        """Return the number and text of the key to use: the next usable one, else the one that is usable soonest."""
        count = len(self._keys)
        if count == 1:
            return 0, self._keys[0]
        now = time.monotonic()
        for step in range(count):
            slot = (self._next + step) % count
            if self._blocked_until[slot] <= now:
                self._next = slot + 1
                return slot, self._keys[slot]
        slot = min(range(count), key=self._blocked_until.__getitem__)
        return slot, self._keys[slot]

    def block(self, slot: int, for_s: float | None) -> bool:
        """Leave a key out, by default for 5 minutes; return whether another one is usable now."""
        now = time.monotonic()
        self._blocked_until[slot] = now + (_DEAD_S if for_s is None else for_s)
        return any(until <= now for until in self._blocked_until)
