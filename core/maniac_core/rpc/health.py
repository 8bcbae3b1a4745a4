"""grpc.health.v1, with a pause between saying that this core stops and stopping."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health, health_pb2

from maniac_core.rpc.boundary.heads import Context

# How long those who watch the health may take to send their calls elsewhere.
_MOVE_ON_S = 0.5


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc, name-defined]  # published without annotations
    """The state of every service."""

    def __init__(self) -> None:
        super().__init__()
        self._watchers = 0

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Tell a client the state, and each change of it."""
        self._watchers += 1
        try:
            await super().Watch(request, context)
        finally:
            self._watchers -= 1

    async def leave(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, and give those who watch a part of the grace to act on it.

        A call that arrives when a server has begun to stop is lost.
        """
        await self.enter_graceful_shutdown()
        if self._watchers:
            await asyncio.sleep(min(grace_s, _MOVE_ON_S))
