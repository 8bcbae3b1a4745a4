"""Advances: money that a core has reserved ahead, so that most requests take their part of it without the database.

An advance is one reservation for many requests of one caller. It is taken only while budgets have plenty of room, lasts
for a minute, and what is unused of it goes back as soon as its caller pauses: other cores may need it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from maniac_core.domain.budgets import SECONDS_PER_DAY, Hold
from maniac_core.domain.records import Caller, Spender

REQUESTS = 32
"""How many requests of the size of the present one an advance is for."""
ROOM = 32
"""How many times its amount must be free in every budget: what a dead core leaves behind may stay charged."""
_LONGEST_S = 60


class _Advance:
    __slots__ = ("hold", "is_used", "left", "until")

    def __init__(self, hold: Hold, now: int) -> None:
        self.hold = hold
        self.left = hold.amount_nano_usd
        self.is_used = True
        # Its budgets' periods end with a day at the earliest.
        self.until = min(now + _LONGEST_S, now - now % SECONDS_PER_DAY + SECONDS_PER_DAY)


class Advances:
    """The advances of one core. Times are Unix seconds."""

    def __init__(self) -> None:
        self._advances: dict[Spender, _Advance] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._advances)

    def take(self, caller: Caller, amount_nano_usd: int, now: int) -> Hold | None:
        """Return a part of the caller's advance; None: there is none, or too little is left of it."""
        advance = self._advances.get(caller.spender)
        if advance is None or advance.left < amount_nano_usd or advance.until <= now:
            return None
        advance.left -= amount_nano_usd
        advance.is_used = True
        hold = advance.hold
        return Hold(id=hold.id, amount_nano_usd=amount_nano_usd, windows=hold.windows, is_part=True)

    def add(self, caller: Caller, hold: Hold, now: int) -> None:
        """Keep a new advance; one that the caller had before was removed."""
        self._advances[caller.spender] = _Advance(hold, now)

    def remove(self, spenders: Iterable[Spender]) -> list[Hold]:
        """End the advances of these callers and return what is unused of them."""
        ended = [self._advances.pop(one, None) for one in spenders]
        return [
            msgspec.structs.replace(one.hold, amount_nano_usd=one.left, is_part=True, is_rest=True)
            for one in ended
            if one is not None and one.left
        ]

    def remove_all(self) -> list[Hold]:
        """End all and return what is unused."""
        return self.remove(list(self._advances))

    def remove_of(self, organization: int) -> list[Hold]:
        """End those that spend from an organization's budgets, and return what is unused of them."""
        return self.remove([one for one in self._advances if one[0] == organization])

    def remove_idle(self, now: int) -> list[Hold]:
        """End those that are old, or were not used since the last time, and return what is unused of them."""
        idle = [
            one
            for one, advance in self._advances.items()
            if not advance.is_used or advance.until <= now
        ]
        for advance in self._advances.values():
            advance.is_used = False
        return self.remove(idle)

    def ids(self) -> list[str]:
        """Return the reservations that are advances."""
        return [advance.hold.id for advance in self._advances.values()]
