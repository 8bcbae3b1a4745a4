"""The configuration as a command sees it: the core's from `config.py`, the edge's asked of the edge itself."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Any

import msgspec

from maniac_core.cli.variables import warn_of_unknown
from maniac_core.config.core import Config, ConfigError, CoreConfig, load


class EdgeSettings(msgspec.Struct, frozen=True):
    """The values of the effective `[edge]` table that commands need."""

    host: str
    port: int
    drain_s: float
    grace_s: float
    metrics_listen: str = ""
    edge_key_env: str = ""

    @property
    def local_host(self) -> str:
        """The address under which this machine reaches it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104 - compared

    @property
    def url(self) -> str:
        """Its address for this machine."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.port}"


def load_core(arguments: argparse.Namespace, **overrides: Any) -> Config:
    """Load the core's configuration with the options of a command.

    Raises:
        ConfigError: it cannot be used.
    """
    given: dict[str, Any] = {"data_dir": arguments.data_dir, **overrides}
    config = load(arguments.config, os.environ, **given)
    warn_of_unknown(config, os.environ)
    grpc_port: int | None = getattr(arguments, "grpc_port", None)
    if grpc_port is None:
        return config
    host = listen_address(config.core)[0]
    return load(arguments.config, os.environ, **given, listen=f"{host}:{grpc_port}")


def listen_address(core: CoreConfig) -> tuple[str, int]:
    """Return host and port of `[core] listen`.

    Raises:
        ConfigError: it is not `HOST:PORT`.
    """
    host, _, port = core.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"[core] listen: {core.listen!r} is not HOST:PORT")
    return host, int(port)


def edge_command(arguments: argparse.Namespace, **more: Any) -> tuple[str, ...]:
    """Return the command line of an edge with the options of a command, `more` before them."""
    command = [sys.executable, "-m", "maniac_edge"]
    given = {name: getattr(arguments, name, None) for name in ("config", "host", "port", "core")}
    for name, value in {**given, **more}.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    return tuple(command)


def edge_document(arguments: argparse.Namespace) -> bytes:
    """Return the edge's effective table as JSON.

    The two sides share no code, so the edge reads its own table.

    Raises:
        ConfigError: it cannot be used.
    """
    answer = subprocess.run(  # noqa: S603 - our own command
        (*edge_command(arguments), "--check-config"), check=False, capture_output=True
    )
    if answer.returncode:
        raise ConfigError(answer.stderr.decode(errors="replace").strip())
    return answer.stdout


def load_edge(arguments: argparse.Namespace) -> EdgeSettings:
    """Return the edge's settings.

    Raises:
        ConfigError: they cannot be used.
    """
    return msgspec.json.decode(edge_document(arguments), type=EdgeSettings)
