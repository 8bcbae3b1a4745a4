"""Batches the small writes of one turn of the event loop: one system call costs more than copying them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class GatheringTransport:
    """Stands in front of a client's transport; everything but writing and closing is the transport's own."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        close: Callable[[], None],
    ) -> None:
        """`close` is called, once, in place of the transport's own."""
        self._transport = transport
        self._loop = loop
        self._close = close
        self._is_closed = False
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send soon."""
        if self._is_closed:
            return
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Send what waits, then close."""
        if not self._is_closed:
            self._flush()
            self._is_closed = True
            self._close()

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._is_closed or self._transport.is_closing()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def __getattr__(self, name: str) -> Any:
        """Forward any other attribute to the transport."""
        return getattr(self._transport, name)
