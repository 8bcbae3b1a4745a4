"""A Redis of the tests' own, made from the installed binary."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time

from ports import free_ports

_READY_WITHIN_S = 90


class RedisServer:
    """A server on 127.0.0.1 that keeps nothing; nothing of it is left after `remove`."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = tempfile.mkdtemp(prefix="maniac-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)

    @staticmethod
    def program() -> str | None:
        """Return the installed server, if there is one."""
        return shutil.which("redis-server") or shutil.which("valkey-server")

    @property
    def url(self) -> str:
        """What goes into a configuration."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and wait until it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--dir", self._folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not answers(self.port):
            assert time.monotonic() < deadline, "Redis does not start"
            time.sleep(0.02)  # There is no event across processes to wait for.

    def kill(self) -> None:
        """Kill it; what it counted is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Kill it, and remove everything."""
        self.kill()
        shutil.rmtree(self._folder)


def answers(port: int) -> bool:
    """Whether a Redis listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
