"""Runs the processes of one gateway: starts them, waits until they serve, restarts the dead, stops them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine

from maniac_core.cli.serving.child import Child, Program

_ECHO_S = 0.05

_log = logging.getLogger(__name__)


class Supervisor:
    """Keeps programs running from the first signal to the last process.

    They start together and stop one by one, the last first: each may lean on those before it.
    """

    def __init__(self, programs: list[Program], on_stop: Callable[[], None] = lambda: None) -> None:
        """`on_stop` is called at the first signal."""
        self._on_stop = on_stop
        self._children = [Child(program) for program in programs]
        self._up = asyncio.Event()
        self._stop = asyncio.Event()
        self._killed = False
        self._signalled = 0.0

    async def run(self, ready: Coroutine[None, None, None], announce: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT and return the exit status; a second signal kills everything at once.

        `announce` is called once `ready` is over. The status is 1 when an essential program died before that, or
        when a second signal came.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        try:
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(child.run(self._up)) for child in self._children]
                waiting = group.create_task(ready)
                stopped = group.create_task(self._stop.wait())
                essential = [
                    run
                    for run, child in zip(runs, self._children, strict=True)
                    if child.program.essential
                ]
                await asyncio.wait(
                    {waiting, stopped, *essential}, return_when=asyncio.FIRST_COMPLETED
                )
                has_failed = any(run.done() for run in essential)
                if waiting.done() and not has_failed:
                    self._up.set()
                    announce()
                    await stopped
                for child in reversed(self._children):
                    await child.stop()
                for task in (waiting, stopped, *runs):
                    task.cancel()
        finally:
            self._kill()
        return 1 if has_failed or self._killed else 0

    async def wait_for_loss(self, name: str) -> None:
        """Wait until the program of that name is given up."""
        await self._child(name).lost.wait()

    def change(self, program: Program, notice: signal.Signals) -> None:
        """Run this program from the next start on, and tell the running one of the same name by a signal."""
        child = self._child(program.name)
        child.program = program
        child.signal(notice)

    def _child(self, name: str) -> Child:
        return next(child for child in self._children if child.program.name == name)

    def _on_signal(self) -> None:
        now = time.monotonic()
        if self._stop.is_set():
            # Some senders, timeout(1) among them, signal both the process and its group: that is one request.
            if now - self._signalled < _ECHO_S:
                return
            _log.warning("second signal: everything is killed")
            self._killed = True
            self._kill()
        self._signalled = now
        if not self._stop.is_set():
            self._stop.set()
            self._on_stop()

    def _kill(self) -> None:
        for child in self._children:
            child.kill()
