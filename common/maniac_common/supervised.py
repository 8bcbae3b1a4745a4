"""Background work that must not end by a mistake: what it raises is logged, and it starts again after a pause."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


async def supervised(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` until it returns by itself or this is cancelled; `what` names it in the log.

    The pause doubles with each failure, up to a minute, and is short again after work that went well for longer.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        started = time.monotonic()
        try:
            return await work()
        except Exception:  # noqa: BLE001 - whatever it is
            if time.monotonic() - started > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            _log.exception("%s failed and starts again in %.0f s", what, pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
