"""The real gateway as real processes: `maniac-gateway serve` with a configuration of the test."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from ports import free_ports

KEY = "mk-test-0123456789abcdefghijklmnopqrstuvwxyz"
INTERNAL_KEY = "internal-0123456789abcdefghijklmnopqrstuvwxyz"
_READY_WITHIN_S = 90
CONFIG = """
[core]
rate_limit = 1000000
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
max_retries = 0
breaker = false
timeouts = {{ first_token_s = 30, idle_s = 30, total_s = 40 }}
[edge]
keep_alive_comment_s = 0.3
"""


class Gateway:
    """A running gateway."""

    def __init__(self, folder: Path, config: str, *, environ: dict[str, str] | None = None) -> None:
        """`config`: TOML text; the ports and the data directory are added."""
        self.folder = folder
        self.data_dir = folder / "data"
        self.port, self.grpc_port = free_ports(2)
        self.config = folder / "gateway.toml"
        self.config.write_text(config)
        self.log = folder / "log.txt"
        self.environ = {
            **{name: value for name, value in os.environ.items() if "_API_KEY" not in name},
            "MANIAC_API_KEY": KEY,
            "MANIAC_INTERNAL_KEY": INTERNAL_KEY,
            **(environ or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the edge listens, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"{self.url}/v1"

    @property
    def grpc_target(self) -> str:
        """Where the core listens for internal services."""
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        """Start and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "maniac_core.cli.main",
                    "serve",
                    f"--config={self.config}",
                    f"--data-dir={self.data_dir}",
                    f"--port={self.port}",
                    f"--grpc-port={self.grpc_port}",
                ],
                env=self.environ,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the edge says that the core serves."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.output()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            # There is no event across processes to wait for.
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.output()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop, and return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(90)
        finally:
            self.process.kill()

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def children(self, what: str) -> list[int]:
        """Return the ids of the processes of this gateway whose command line has `what` in it."""
        assert self.process is not None
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                stat = (folder / "stat").read_text()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            if parent == self.process.pid and what in command:
                found.append(int(folder.name))
        return found

    def kill_core(self) -> None:
        """Kill the core with -9."""
        for pid in self.children(" core"):
            os.kill(pid, signal.SIGKILL)

    def client(self, **options: Any) -> httpx.Client:
        """Return an HTTP client that sends the key."""
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, **options
        )


def lasting_window_s() -> int:
    """Return the length of a rate window that does not end soon: about an hour, of which half is left."""
    now = time.time()
    return next(length for length in itertools.count(3600) if now % length < length / 2)
