"""One child process of `serve`: started, watched, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

_TETHER = str(Path(__file__).with_name("tether.py"))
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_SETTLED_S = 30.0
# How often a file that is gone is looked for.
_LOOK_S = 1.0
# A program that the gateway can do without is given up at this many deaths within so many seconds.
_MOST_DEATHS = 5
_DEATHS_WITHIN_S = 600.0

_log = logging.getLogger(__name__)


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The command of a child."""

    name: str
    """Its name in the log."""
    command: tuple[str, ...]
    """Absolute path of the program, then its arguments."""
    environ: Mapping[str, str]
    grace_s: float
    """How long it may take to end after SIGTERM, in seconds."""
    essential: bool = True
    """Whether nothing works without it."""
    needs: Path | None = None
    """A file that was there at the first start, and without which another one is useless."""


class Child:
    """A program that is kept running. It leads a process group of its own, so that a Ctrl-C reaches the parent only."""

    def __init__(self, program: Program) -> None:
        self.program = program
        """The command of the next start."""
        self.lost = asyncio.Event()
        """Set once it is given up."""
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def run(self, is_up: asyncio.Event) -> None:
        """Start it, and again whenever it dies, until `stop`.

        Returns early, with `lost` set, when it dies before `is_up`: what cannot start once will not the next time.
        A program that is not essential is also given up when it dies too often.
        """
        backoff_s = _FIRST_BACKOFF_S
        deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
        while not self._stopping:
            started = time.monotonic()
            end = await self._run_once()
            if self._stopping:
                return
            now = time.monotonic()
            deaths.append(now)
            if not is_up.is_set():
                self._give_up(end)
                return
            died_too_often = len(deaths) == _MOST_DEATHS and now - deaths[0] < _DEATHS_WITHIN_S
            if died_too_often and not self.program.essential:
                self._give_up(f"{end}, the last of {_MOST_DEATHS} times")
                return
            if now - started > _SETTLED_S:
                backoff_s = _FIRST_BACKOFF_S
            _log.error("%s %s; starting it again in %.1f s", self.program.name, end, backoff_s)
            await asyncio.sleep(backoff_s)
            await self._wait_for_file()
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)

    async def _wait_for_file(self) -> None:
        if self._has_its_file():
            return
        _log.error(
            "%s waits, since %s is gone; put it back, or stop the gateway and start it anew",
            self.program.name,
            self.program.needs,
        )
        while not (self._stopping or self._has_its_file()):  # noqa: ASYNC110 - others put it back
            await asyncio.sleep(_LOOK_S)

    def _has_its_file(self) -> bool:
        path = self.program.needs
        # Unlike Path.exists, also False where the folder may not be entered.
        return path is None or os.path.exists(path)  # noqa: PTH110

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _give_up(self, end: str) -> None:
        remark = "" if self.program.essential else "; it stays off until the next start"
        _log.error("%s %s%s", self.program.name, end, remark)
        self.lost.set()

    async def stop(self) -> None:
        """Send SIGTERM and wait for the end; past the program's grace, kill its group."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.program.grace_s)
        except TimeoutError:
            _log.warning(
                "%s did not end within %.0f s and is killed",
                self.program.name,
                self.program.grace_s,
            )
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """Kill it and what it started, at once and for good."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process.pid)

    async def _run_once(self) -> str:
        """Run it to its end and return how it ended."""
        try:
            process = await asyncio.create_subprocess_exec(
                # Bare: neither site-packages nor the environment is needed to become another program.
                *(sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *self.program.command),
                env=self.program.environ,
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as err:
            return f"cannot be started: {err.strerror}"
        self._process = process
        if self._stopping:
            _kill_group(process.pid)
        status = await process.wait()
        # The processes it started must not outlive it.
        _kill_group(process.pid)
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
