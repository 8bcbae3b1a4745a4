"""Watch: whether the peer of a connection is there, is known, and keeps within bounds."""

from __future__ import annotations

import enum

from maniac_common.hop.frames import ConnectionFault, ErrorCode

TICK_S = 5.0
"""Time from one tick to the next."""
# Per tick, of frames that cost a peer little and this side something.
_MAX_IDLE_FRAMES = 1000
# Ticks of silence after which the peer is asked whether it is there, and given up; and those that a client may take
# to open its first call.
_ASK_AFTER, _GIVE_UP_AFTER = 1, 2
_UNTRUSTED_TICKS = 2


class Verdict(enum.Enum):
    """What a tick brings."""

    FINE = enum.auto()
    ASK = enum.auto()
    """Nothing was heard for a while: send a PING."""
    SILENT = enum.auto()
    """Nothing was heard in spite of that."""
    UNKNOWN = enum.auto()
    """The peer has not shown who it is in time."""


class Watch:
    """Counts what comes between ticks."""

    def __init__(self, *, is_trusted: bool) -> None:
        self.is_trusted = is_trusted
        """Whether the peer has shown who it is."""
        self.has_heard = False
        """Whether anything came since the last tick; set by who receives."""
        self._idle_frames = 0
        self._silent_ticks = 0
        self._untrusted_ticks = 0

    def count_idle(self, cost: int = 1) -> None:
        """A frame came that moves nothing: a ping, settings, a reset, a new stream, no data.

        Raises:
            ConnectionFault: there are too many.
        """
        self._idle_frames += cost
        if self._idle_frames > _MAX_IDLE_FRAMES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that say nothing")

    def tick(self, *, is_writable: bool) -> Verdict:
        """Time has passed."""
        if is_writable:
            # While the peer does not read what it makes us write, it gets no further allowance.
            self._idle_frames = 0
        self._silent_ticks = 0 if self.has_heard else self._silent_ticks + 1
        self.has_heard = False
        if not self.is_trusted:
            self._untrusted_ticks += 1
            return Verdict.UNKNOWN if self._untrusted_ticks >= _UNTRUSTED_TICKS else Verdict.FINE
        if self._silent_ticks >= _GIVE_UP_AFTER:
            return Verdict.SILENT
        return Verdict.ASK if self._silent_ticks == _ASK_AFTER else Verdict.FINE
