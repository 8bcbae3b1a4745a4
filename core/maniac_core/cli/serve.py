"""`maniac-gateway serve`: core, edge and the embedded model, as processes under one supervisor."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import sys
from pathlib import Path

import msgspec

from maniac_core import logs
from maniac_core.cli import banner, data_dir, ports
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
from maniac_core.config import (
    DEFAULT_LOCAL_MODEL,
    LOCAL_PROVIDER,
    Config,
    ConfigError,
    local_model_path,
    local_provider,
)
from maniac_core.domain.errors import GatewayError
from maniac_core.local.pull import PullError, pull
from maniac_core.storage import migrate_database
from maniac_core.storage.base import StorageError
from maniac_core.telemetry import metrics_address

_KILL_MARGIN_S = 5.0
_LOCAL_GRACE_S = 2.0
_LOCAL_READY_S = 5.0
_LOCAL_NAME = "local model"
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
            if arguments.pull and not config.core.local_model:
                _pull(folder)
                config = load_core(arguments)
            return _serve(arguments, _placed(config, folder), edge)
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


def _serve(arguments: argparse.Namespace, config: Config, edge: EdgeSettings) -> int:
    port = ports.claim(edge.host, edge.port, "--port")
    edge = msgspec.structs.replace(edge, port=port)
    _claim_for_metrics(config.core.metrics_listen, edge.metrics_listen)
    config, local_problem = _with_local_model(config)
    for name in migrate_database(config.core):
        _log.info("database: applied %s", name)
    secret = asyncio.run(ensure_key(config.core, os.environ))
    sys.stdout.write(banner.addresses(config, edge.url))
    if local_problem:
        sys.stdout.write(f"        no embedded model: {local_problem}\n")
    if secret is not None:
        # Now, and not when all is ready: a start that fails later must not lose the key.
        sys.stdout.write("\n" + banner.first_start(config, edge.url, secret, os.environ) + "\n")
    sys.stdout.flush()
    return asyncio.run(_supervise(arguments, config, edge))


def _claim_for_metrics(core: str, edge: str) -> None:
    if core and core == edge:
        raise ConfigError(f"{core}: [core] and [edge] metrics_listen are the same; change one")
    for table, address in (("core", core), ("edge", edge)):
        if address:
            ports.claim(*metrics_address(address), f"[{table}] metrics_listen")


def _with_local_model(config: Config) -> tuple[Config, str | None]:
    """Return the configuration with the embedded model only if it can be served, and why it cannot."""
    core = config.core
    path = local_model_path(core)
    ours = local_provider(core)
    if ours is not None and config.providers.get(LOCAL_PROVIDER) != ours:
        problem: str | None = f"[providers.{LOCAL_PROVIDER}] is configured, and used instead"
    elif ours is not None and not ports.is_free("127.0.0.1", core.local_port):
        problem = f"port {core.local_port} is taken; choose another with [core] local_port"
        config = _without_local_provider(config)
    elif ours is not None or path is None:
        return config, None
    elif importlib.util.find_spec("xllamacpp") is None:
        problem = "llama.cpp is not installed; pip install 'maniac-gateway[local]'"
    elif core.local_model:
        problem = f"{path} is not there; see [core] local_model"
    else:
        problem = "maniac-gateway pull smollm2-135m-instruct fetches one"
    return msgspec.structs.replace(
        config, core=msgspec.structs.replace(core, local_model="off")
    ), problem


def _without_local_provider(config: Config) -> Config:
    others = {name: table for name, table in config.providers.items() if name != LOCAL_PROVIDER}
    return msgspec.structs.replace(config, providers=others)


async def _supervise(arguments: argparse.Namespace, config: Config, edge: EdgeSettings) -> int:
    programs = [_core(arguments, config), _edge(arguments, config, edge)]
    model = local_model_path(config.core)
    if model is not None:
        programs.insert(0, _local(config, model))

    def announce() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    supervisor = Supervisor(programs)
    return await supervisor.run(_all_ready(config, edge, supervisor), announce)


async def _all_ready(config: Config, edge: EdgeSettings, supervisor: Supervisor) -> None:
    await wait_until_ready(edge.local_host, edge.port, "/readyz")
    if local_model_path(config.core) is None:
        return
    # So that the printed request works at once. The default model is loaded by now, or in a moment; nothing waits
    # long for a large one, nor for one that cannot be loaded.
    _, pending = await asyncio.wait(
        [
            asyncio.create_task(wait_until_ready("127.0.0.1", config.core.local_port, "/health")),
            asyncio.create_task(supervisor.wait_for_death(_LOCAL_NAME)),
        ],
        timeout=_LOCAL_READY_S,
        return_when=asyncio.FIRST_COMPLETED,
    )
    for task in pending:
        task.cancel()
    if len(pending) == 2:
        _log.info("%s: still loading", _LOCAL_NAME)


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


def _local(config: Config, model: Path) -> Program:
    command = [sys.executable, "-m", "maniac_core.local.server"]
    command += ["--model", str(model), "--port", str(config.core.local_port)]
    command += ["--log-format", config.core.log_format]
    return Program(
        name=_LOCAL_NAME,
        command=tuple(command),
        # llama.cpp needs none of the providers' keys.
        environ={
            name: value
            for name, value in os.environ.items()
            if not name.endswith(("_KEY", "_TOKEN"))
        },
        grace_s=_LOCAL_GRACE_S,
        essential=False,
    )
