"""Starts a program for a measurement, waits until it serves, and ends it with everything it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from bench import procstat
from bench.host import ROOT
from bench.target import Target

_POLL_S = 0.02
# Measured traffic stays on this machine: no proxy of the environment is asked.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StartError(Exception):
    """A program did not come up; the message has the end of its log."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is up."""

    name: str
    target: Target
    roles: dict[str, list[int]]
    """Process ids by role; empty where they are not known."""
    features: tuple[str, ...]
    """What it does for each request besides forwarding."""
    version: str
    grpc_port: int = 0
    """Where it takes gRPC; 0: nowhere."""


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    ready_url: str,
    log: Path,
    environ: Mapping[str, str] | None = None,
    cpu: int | None = None,
    within_s: float = 30.0,
) -> Iterator[int]:
    """Run a command until the block ends; yields its process id once `ready_url` answers 200.

    `environ` is added to a bare environment, so that no key or proxy of the user's gets into a measurement.

    Raises:
        StartError: it ended or did not answer within `within_s` seconds.
    """
    command = [*(("taskset", "-c", str(cpu)) if cpu is not None else ()), *command]
    if shutil.which(command[0]) is None:
        raise StartError(f"{command[0]}: not found")
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**base, "PYTHONUNBUFFERED": "1", **(environ or {})},
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            _wait_until_ready(process, ready_url, log, within_s)
            yield process.pid
        finally:
            _stop(process)


def stop_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that nothing it started is left behind."""

    def leave(number: int, frame: object) -> None:
        del frame
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def fetch(target: Target, path: str, timeout_s: float = 60.0) -> bytes:
    """GET a path under the target's base URL.

    Raises:
        OSError: no answer, or not a 2xx.
    """
    headers = {"authorization": f"Bearer {target.key}", **target.headers}
    request = urllib.request.Request(target.url + path, headers=headers)
    with _opener.open(request, timeout=timeout_s) as response:
        body: bytes = response.read()
        return body


def _wait_until_ready(
    process: subprocess.Popen[bytes], url: str, log: Path, within_s: float
) -> None:
    deadline = time.monotonic() + within_s
    problem = "no answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with _opener.open(url, timeout=2):
                return
        except urllib.error.HTTPError as err:
            problem = str(err)
        except OSError as err:
            problem = str(err)
        time.sleep(_POLL_S)
    state = "is running" if process.poll() is None else f"ended with {process.returncode}"
    tail = log.read_text(errors="replace")[-1500:]
    raise StartError(f"{process.args!r} {state}; {url}: {problem}\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    descendants = procstat.process_tree(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # A supervisor that was killed leaves its children, which may lead groups of their own.
    for pid in descendants[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
