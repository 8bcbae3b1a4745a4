"""Cores and edges as real processes of their own, as a fleet runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
from cli import run_command
from gateway import INTERNAL_KEY
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ports import free_ports

_READY_WITHIN_S = 90


class Node:
    """One core or one edge."""

    def __init__(
        self, command: list[str], environ: dict[str, str], log: Path, is_ready: Callable[[], bool]
    ) -> None:
        self._command = [sys.executable, "-m", "maniac_core.cli.main", *command]
        self._environ = environ
        self._log = log
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._is_ready():
            assert self._process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)  # There is no event across processes to wait for.

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop, and return the exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(90)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace")


class Cluster:
    """Cores that share a database, and edges that know all of them."""

    def __init__(
        self, folder: Path, config: str, *, cores: int, edges: int, environ: dict[str, str]
    ) -> None:
        """`config`: TOML text; addresses and folders are given on the command line."""
        self.config = folder / "gateway.toml"
        self.config.write_text(config)
        self.data_dir = folder / "data"
        self.environ = {
            **{name: value for name, value in os.environ.items() if "_API_KEY" not in name},
            "MANIAC_INTERNAL_KEY": INTERNAL_KEY,
            "MANIAC_EDGE_KEY": "edge-0123456789abcdefghijklmnopqrstuvwxyz",
            **environ,
        }
        ports = free_ports(cores + edges)
        self.core_ports, edge_ports = ports[:cores], ports[cores:]
        self.core_list = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.core_ports)
        self.urls = [f"http://127.0.0.1:{port}" for port in edge_ports]
        self.cores = [self._core(folder, port) for port in self.core_ports]
        self.edges = [self._edge(folder, port) for port in edge_ports]

    def start(self) -> None:
        """Make the schema, and start everything."""
        self.run("migrate")
        for node in (*self.cores, *self.edges):
            node.start()

    def stop(self) -> list[int]:
        """Stop everything, edges first, and return the exit statuses."""
        return [node.stop() for node in (*self.edges, *self.cores)]

    def run(self, *arguments: str) -> str:
        """Run a command and return what it printed."""
        return run_command(self, *arguments)

    def _core(self, folder: Path, port: int) -> Node:
        def is_ready() -> bool:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                try:
                    answer = health_pb2_grpc.HealthStub(channel).Check(
                        health_pb2.HealthCheckRequest(), timeout=5
                    )
                except grpc.RpcError:
                    return False
            return answer.status == health_pb2.HealthCheckResponse.SERVING

        command = ["core", f"--config={self.config}", f"--grpc-port={port}"]
        command.append(f"--data-dir={folder / f'core-{port}'}")
        return Node(command, self.environ, folder / f"core-{port}.log", is_ready)

    def _edge(self, folder: Path, port: int) -> Node:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        command = ["edge", f"--config={self.config}", f"--port={port}", f"--core={self.core_list}"]
        return Node(command, self.environ, folder / f"edge-{port}.log", is_ready)
