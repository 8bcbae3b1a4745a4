"""One WebSocket connection, served by uvicorn's own protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class SocketProtocol(WebSocketsSansIOProtocol):
    """From its handshake on."""

    def __init__(self, *args: Any, app: Any, on_lost: Callable[[], None]) -> None:
        super().__init__(*args)
        self.app = app
        self._on_lost = on_lost

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the connection is closed."""
        super().connection_lost(exc)
        self._on_lost()
