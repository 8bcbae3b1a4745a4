"""`maniac-gateway serve`: core, edge and the embedded model, as processes under one supervisor."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from maniac_core import logs
from maniac_core.cli import banner, data_dir, local_model, ports
from maniac_core.cli.child import Program
from maniac_core.cli.first_key import ensure_key
from maniac_core.cli.probe import wait_until_ready
from maniac_core.cli.settings import (
    EdgeSettings,
    edge_command,
    listen_address,
    load_core,
    load_edge,
)
from maniac_core.cli.supervisor import Supervisor
from maniac_core.config import DEFAULT_LOCAL_MODEL, Config, ConfigError, local_model_path
from maniac_core.domain.errors import GatewayError
from maniac_core.local.pull import PullError, pull
from maniac_core.storage import migrate_database
from maniac_core.storage.base import StorageError
from maniac_core.telemetry import metrics_address

_KILL_MARGIN_S = 5.0
_LOCAL_READY_S = 5.0
_LONGEST_SOCKET_PATH = 107

_log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal and return the exit status."""
    edge = load_edge(arguments)
    config = load_core(arguments)
    logs.configure(config.core.log_format)
    folder = config.core.data_dir.absolute()
    try:
        data_dir.prepare(folder)
        with data_dir.locked(folder):
            llama = local_model.Llama(problem=None)
            if local_model_path(config.core) is not None:
                llama = local_model.try_llama(os.environ)
            if arguments.pull and not config.core.local_model and llama.problem is None:
                _pull(folder)
                config = load_core(arguments)
            return _serve(arguments, _placed(config, folder), edge, llama)
    except data_dir.InUseError as err:
        sys.stderr.write(f"maniac-gateway: {err}\n")
    except (OSError, StorageError, GatewayError) as err:
        sys.stderr.write(f"maniac-gateway: cannot start: {err.__cause__ or err}\n")
    return 1


def _pull(folder: Path) -> None:
    try:
        pull(DEFAULT_LOCAL_MODEL, folder / "models")
    except PullError as err:
        sys.stderr.write(f"maniac-gateway: {err}\nGoing on without the embedded model.\n")


def _placed(config: Config, folder: Path) -> Config:
    """Return the configuration with the data folder as an absolute path and a gRPC port that is free."""
    host, port = listen_address(config.core)
    listen = f"{host}:{ports.claim(host, port, '--grpc-port')}"
    core = msgspec.structs.replace(config.core, data_dir=folder, listen=listen)
    if len(os.fsencode(core.socket_path.absolute())) > _LONGEST_SOCKET_PATH:
        raise ConfigError(
            f"{core.socket_path.absolute()} is too long for a socket (over {_LONGEST_SOCKET_PATH} bytes); "
            "set [core] socket to a shorter path"
        )
    return msgspec.structs.replace(config, core=core)


def _serve(
    arguments: argparse.Namespace, config: Config, edge: EdgeSettings, llama: local_model.Llama
) -> int:
    port = ports.claim(edge.host, edge.port, "--port")
    edge = msgspec.structs.replace(edge, port=port)
    _claim_for_metrics(config.core.metrics_listen, edge.metrics_listen)
    config, problem = local_model.settle(config, llama)
    for name in migrate_database(config.core):
        _log.info("database: applied %s", name)
    secret = asyncio.run(ensure_key(config.core, os.environ))
    sys.stdout.write(banner.addresses(config, edge.url))
    if secret is not None:
        # Now, and not when all is ready: a start that fails later must not lose the key.
        sys.stdout.write(banner.first_key(secret, os.environ))
    sys.stdout.flush()

    serving = _Serving(arguments, config, edge, llama, problem)

    def announce() -> None:
        offered = local_model.with_demo(serving.config)
        sys.stdout.write(banner.models(offered, serving.problem))
        if secret is not None:
            sys.stdout.write(banner.first_request(offered, edge.url, secret, os.environ))
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    return asyncio.run(serving.run(announce))


def _claim_for_metrics(core: str, edge: str) -> None:
    if core and core == edge:
        raise ConfigError(f"{core}: [core] and [edge] metrics_listen are the same; change one")
    for table, address in (("core", core), ("edge", edge)):
        if address:
            ports.claim(*metrics_address(address), f"[{table}] metrics_listen")


class _Serving:
    """The processes of one `serve`."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        config: Config,
        edge: EdgeSettings,
        llama: local_model.Llama,
        problem: str | None,
    ) -> None:
        """`problem`: why there is no embedded model."""
        self._arguments = arguments
        self.config = config
        self.problem = problem
        self._edge = edge
        self._core_serves = asyncio.Event()
        self._model_is_off = asyncio.Event()
        programs = [_core(arguments, config), _edge(arguments, config, edge)]
        model = local_model_path(config.core)
        if model is None:
            self._model_is_off.set()
        else:
            programs.insert(0, local_model.program(config, model, llama, os.environ))
        self._supervisor = Supervisor(programs)

    async def run(self, announce: Callable[[], None]) -> int:
        """Serve until a signal and return the exit status; `announce` is called when all is ready."""
        watch = asyncio.create_task(self._watch_model())
        try:
            return await self._supervisor.run(self._all_ready(), announce)
        finally:
            watch.cancel()

    async def _watch_model(self) -> None:
        """Take the embedded model off the list when its process is given up."""
        if self._model_is_off.is_set():
            return
        await self._supervisor.wait_for_loss(local_model.NAME)
        # Before that it could not be told.
        await self._core_serves.wait()
        self.config = local_model.without(self.config)
        self.problem = "its process could not be kept running; the log says why"
        self._supervisor.change(_core(self._arguments, self.config), signal.SIGUSR1)
        self._model_is_off.set()

    async def _all_ready(self) -> None:
        await wait_until_ready(self._edge.local_host, self._edge.port, "/readyz")
        self._core_serves.set()
        if self._model_is_off.is_set():
            return
        # So that the printed request works at once. The default model is loaded by now, or in a moment; nothing waits
        # long for a large one, nor for one that cannot be loaded.
        port = self.config.core.local_port
        _, pending = await asyncio.wait(
            [
                asyncio.create_task(wait_until_ready("127.0.0.1", port, "/health")),
                asyncio.create_task(self._model_is_off.wait()),
            ],
            timeout=_LOCAL_READY_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in pending:
            task.cancel()
        if len(pending) == 2:
            _log.info("%s: still loading", local_model.NAME)


def _core(arguments: argparse.Namespace, config: Config) -> Program:
    core = config.core
    command = [sys.executable, "-m", "maniac_core.cli.main", "core"]
    if arguments.config:
        command += ["--config", str(arguments.config)]
    command += ["--data-dir", str(core.data_dir)]
    command += ["--grpc-port", str(listen_address(core)[1])]
    model = local_model_path(core)
    if model is not None:
        command += ["--local-model", str(model)]
    command.append("--demo")
    return Program(
        name="core",
        command=tuple(command),
        environ=os.environ,
        grace_s=core.grace_s + _KILL_MARGIN_S,
    )


def _edge(arguments: argparse.Namespace, config: Config, edge: EdgeSettings) -> Program:
    target = f"unix:{config.core.socket_path.absolute()}"
    return Program(
        name="edge",
        # A port of 0 has become a real one by now.
        command=edge_command(arguments, port=edge.port, core=target),
        environ=os.environ,
        grace_s=edge.drain_s + edge.grace_s + _KILL_MARGIN_S,
    )
