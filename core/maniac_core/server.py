"""Starts a core, drains and stops it. Its parts are made in `assembly.py`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping

from grpc_health.v1 import health_pb2
from maniac_common import process
from maniac_common.supervised import supervised

from maniac_core import grpc_port
from maniac_core.assembly import Parts
from maniac_core.config.core import Config
from maniac_core.rpc.boundary.register import service_names
from maniac_core.services.access.configuration_log import note_configuration
from maniac_core.storage.stores.audit import AuditStore

_log = logging.getLogger(__name__)


class Core:
    """A core that can be started and stopped on a running event loop."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], *, has_demo: bool = False
    ) -> None:
        """`has_demo`: whether the scripted provider `demo` answers while there is no other provider."""
        self.config = config
        self._parts = Parts(config, environ, has_demo=has_demo)

    def drop_local_model(self) -> None:
        """Stop offering the embedded model: its process is given up."""
        self._parts.drop_local_model()

    async def start(self) -> None:
        """Open the database, listen, and report SERVING.

        Raises:
            StorageError: the database cannot be used.
            OSError: an address cannot be listened on.
        """
        config, parts = self.config.core, self._parts
        await parts.database.start()
        settling = await parts.calls.open()
        await note_configuration(AuditStore(parts.database), self.config)
        grpc_port.listen(parts.server, config)
        if parts.metrics is not None:
            parts.metrics.listen(config.metrics_listen)
        await parts.relay_port.start()
        await parts.server.start()
        config.socket_path.chmod(0o600)
        self._background = [
            settling,
            *(asyncio.create_task(supervised(what, work)) for what, work in parts.background()),
        ]
        for name in ("", *service_names()):
            await parts.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new calls, let running ones finish for `grace_s` seconds, flush, close."""
        parts = self._parts
        parts.relay.drain()
        await parts.health.leave(grace_s)
        for task in self._background:
            task.cancel()
        await asyncio.gather(parts.server.stop(grace_s), parts.relay_port.stop(grace_s))
        for transport in parts.transports:
            await transport.aclose()
        await parts.chat.close()
        await parts.refusals.close()
        parts.completion_log.flush()
        await parts.reservations.close()
        await parts.windows.aclose()
        if parts.metrics is not None:
            # Before the database, which it asks.
            await parts.metrics.aclose()
        await parts.database.close()
        await parts.spool.close()
        # Only now is it known what is durable.
        parts.calls.close()
        if parts.tracing is not None:
            await parts.tracing.aclose()


async def run_core(
    config: Config,
    environ: Mapping[str, str],
    ready: Callable[[], None] = lambda: None,
    *,
    has_demo: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain. Return the exit status.

    `ready` is called when calls are served. SIGUSR1 says that the embedded model is given up.
    """
    process.work_in_batches()
    loop = asyncio.get_running_loop()
    stopping, hurried = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurried if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    core = Core(config, environ, has_demo=has_demo)
    loop.add_signal_handler(signal.SIGUSR1, core.drop_local_model)
    await core.start()
    process.settle()
    _log.info("core serves", extra={"fields": {"grpc": config.core.listen}})
    ready()
    await stopping.wait()
    drain = asyncio.create_task(core.stop(config.core.grace_s))
    hurry = asyncio.create_task(hurried.wait())
    await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        drain.cancel()
        # The calls are cut, but what was captured is still committed.
        await core.stop(0)
    hurry.cancel()
    return 0
