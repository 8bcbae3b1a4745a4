"""Advances: money that a core has reserved ahead, so that most requests take their part of it without the database.

An advance is one reservation for many requests of one caller. It is taken only while budgets have plenty of room, lasts
for a minute, and what is unused of it goes back as soon as its caller pauses: other cores may need it. A caller who goes
on gets the next one, of twice the size, while half of the present one is left.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from maniac_core.domain.budgets import SECONDS_PER_DAY, Hold
from maniac_core.domain.callers import Caller, Spender

REQUESTS = 32
"""How many requests of the size of the present one a caller's first advance is for."""
MOST_REQUESTS = 4_096
"""How many of the size of the largest one a later advance is for at most."""
ROOM = 32
"""How many times its amount must be free in every budget: what a dead core leaves behind may stay charged."""
_LONGEST_S = 60
_AGED_S = 45
_NEVER = 1 << 62


class _Advance:
    __slots__ = (
        "aged",
        "caller",
        "hold",
        "is_used",
        "largest",
        "left",
        "low",
        "may_grow",
        "next",
        "until",
    )

    def __init__(self, caller: Caller, hold: Hold, now: int) -> None:
        self.caller = caller
        self.hold = hold
        self.left = hold.amount_nano_usd
        self.is_used = True
        # Its budgets' periods end with a day at the earliest.
        self.until = min(now + _LONGEST_S, now - now % SECONDS_PER_DAY + SECONDS_PER_DAY)
        self.largest = 0
        """The most that a request has taken of it."""
        self.next = 2 * hold.amount_nano_usd
        """The amount of the advance after this one, as far as its requests are large enough for it."""
        self.may_grow = True
        """Whether no larger one was refused to the caller."""
        self.low = hold.amount_nano_usd // 2
        self.aged = now + _AGED_S
        """The next advance is wanted when less than `low` is left, and from the second `aged` on."""


class Advances:
    """The advances of one core. Times are Unix seconds."""

    def __init__(self) -> None:
        self._advances: dict[Spender, _Advance] = {}
        self._wanted: list[Spender] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._advances)

    @property
    def are_wanted(self) -> bool:
        """Whether a caller is soon at the end of an advance."""
        return bool(self._wanted)

    def take(self, caller: Caller, amount_nano_usd: int, now: int) -> Hold | None:
        """Return a part of the caller's advance; None: there is none, or too little is left of it."""
        spender = caller.spender
        advance = self._advances.get(spender)
        if advance is None or advance.left < amount_nano_usd or advance.until <= now:
            return None
        advance.left -= amount_nano_usd
        advance.is_used = True
        advance.largest = max(advance.largest, amount_nano_usd)
        if advance.left < advance.low or now >= advance.aged:
            # Once: until there is an answer nothing more is asked for.
            advance.low, advance.aged = 0, _NEVER
            self._wanted.append(spender)
        hold = advance.hold
        return Hold(id=hold.id, amount_nano_usd=amount_nano_usd, windows=hold.windows, is_part=True)

    def take_wanted(self) -> list[tuple[Caller, int]]:
        """Return the callers who are soon at the end of an advance, once, and the amount of the next one."""
        wanted, self._wanted = self._wanted, []
        advances = [one for spender in wanted if (one := self._advances.get(spender)) is not None]
        return [(one.caller, _next_amount(one)) for one in advances]

    def refuse(self, caller: Caller) -> None:
        """There is no room for the next advance of a caller: one of half the size is asked for, if it is worth it."""
        advance = self._advances.get(caller.spender)
        if advance is None:
            return
        advance.may_grow = False
        amount = _next_amount(advance) // 2
        if amount >= REQUESTS * advance.largest:
            advance.next = amount
            advance.low = advance.hold.amount_nano_usd // 2

    def add(self, caller: Caller, hold: Hold, now: int) -> list[Hold]:
        """Keep a new advance, and return what is unused of the one that the caller had before."""
        new, old = _Advance(caller, hold, now), self._advances.get(caller.spender)
        if old is not None and not old.may_grow:
            new.may_grow, new.next = False, hold.amount_nano_usd
        unused = self.remove([caller.spender])
        self._advances[caller.spender] = new
        return unused

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


def _next_amount(advance: _Advance) -> int:
    return max(REQUESTS * advance.largest, min(advance.next, MOST_REQUESTS * advance.largest))
