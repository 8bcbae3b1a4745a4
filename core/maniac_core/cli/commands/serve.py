"""`maniac-gateway serve`: core, edge and the embedded model, as processes under one supervisor."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from maniac_common import logs
from maniac_common.secrecy import protect_memory
from maniac_common.telemetry import metrics_address

from maniac_core.cli import prerequisites
from maniac_core.cli.database import migrated
from maniac_core.cli.failures import UsageError
from maniac_core.cli.hints import with_options
from maniac_core.cli.serving import banner, data_dir, environment, local_model, ports
from maniac_core.cli.serving.child import Program
from maniac_core.cli.serving.first_key import ensure_key
from maniac_core.cli.serving.probe import wait_until_ready
from maniac_core.cli.serving.supervisor import Supervisor
from maniac_core.cli.settings import (
    EdgeSettings,
    edge_command,
    listen_address,
    load_core,
    load_edge,
)
from maniac_core.config.core import (
    DEFAULT_LOCAL_MODEL,
    RELAY_SUFFIX,
    Config,
    ConfigError,
    local_model_path,
)
from maniac_core.local.pull import PullError, pull

_KILL_MARGIN_S = 5.0
_LOCAL_READY_S = 5.0
_LONGEST_SOCKET_PATH = 107

_log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal and return the exit status."""
    edge = load_edge(arguments)
    config = load_core(arguments)
    prerequisites.check(config.core, os.environ)
    logs.configure(config.core.log_format, "maniac_core")
    protect_memory()
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
            with _placed(config, folder) as placed:
                return _serve(arguments, placed, edge, llama)
    except data_dir.InUseError as err:
        raise UsageError(str(err)) from None


def _pull(folder: Path) -> None:
    try:
        pull(DEFAULT_LOCAL_MODEL, folder / "models")
    except PullError as err:
        sys.stderr.write(f"maniac-gateway: {err}\nGoing on without the embedded model.\n")


@contextlib.contextmanager
def _placed(config: Config, folder: Path) -> Iterator[Config]:
    """Yield the configuration with the data folder as an absolute path, and a socket whose path the system takes."""
    core = msgspec.structs.replace(config.core, data_dir=folder)
    with contextlib.ExitStack() as stack:
        if core.socket is None and not _has_room(core.socket_path):
            private = tempfile.TemporaryDirectory(prefix="maniac-gateway-")
            core = msgspec.structs.replace(
                core, socket=Path(stack.enter_context(private)) / "core.sock"
            )
        if not _has_room(core.socket_path):
            raise ConfigError(
                f"{core.socket_path.absolute()} is too long for a socket (over {_LONGEST_SOCKET_PATH} bytes); "
                "set [core] socket to a shorter path"
            )
        yield msgspec.structs.replace(config, core=core)


def _has_room(socket: Path) -> bool:
    both = (socket, socket.with_suffix(RELAY_SUFFIX))
    return all(len(os.fsencode(path.absolute())) <= _LONGEST_SOCKET_PATH for path in both)


def _claimed(config: Config, edge: EdgeSettings) -> tuple[Config, EdgeSettings]:
    """Return both with ports that are free, in place of a 0 and as they are."""
    core = config.core
    grpc_host, grpc_port = listen_address(core)
    wishes = [
        ports.Wish(edge.host, edge.port, "--port", "--host"),
        ports.Wish(grpc_host, grpc_port, "--grpc-port", "[core] listen"),
        *ports.relay_wishes(core),
    ]
    for table, address in (("core", core.metrics_listen), ("edge", edge.metrics_listen)):
        if address:
            option = f"[{table}] metrics_listen"
            wishes.append(ports.Wish(*metrics_address(address), option, option))
    port, grpc_port, *_ = ports.claim(wishes)
    core = msgspec.structs.replace(core, listen=f"{grpc_host}:{grpc_port}")
    return msgspec.structs.replace(config, core=core), msgspec.structs.replace(edge, port=port)


def _serve(
    arguments: argparse.Namespace, config: Config, edge: EdgeSettings, llama: local_model.Llama
) -> int:
    config, edge = _claimed(config, edge)
    config, problem = local_model.settle(config, llama)
    for name in migrated(config.core):
        _log.info("database: applied %s", name)
    key = asyncio.run(ensure_key(config.core, os.environ))
    _say(banner.addresses(config, edge.url))
    # Now, and not when all is ready: a start that fails later must not lose the key.
    _say(with_options(banner.keys(key, os.environ), arguments))

    serving = _Serving(arguments, config, edge, llama, problem)

    def announce() -> None:
        offered = local_model.with_demo(serving.config)
        _say(with_options(banner.models(offered, serving.problem), arguments))
        if key.secret is not None:
            _say(banner.first_request(offered, edge.url, key.secret, os.environ))
        _say("ready\n")

    return asyncio.run(serving.run(announce))


def _say(text: str) -> None:
    # Whoever read it may have left.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text)
        sys.stdout.flush()


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
        self._supervisor = Supervisor(programs, on_stop=lambda: _say("stopping\n"))

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
        # Until then the core cannot receive the signal.
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
        environ=environment.for_core(config, os.environ)
        | {"MANIAC_CORE__SOCKET": str(core.socket_path)},
        grace_s=core.grace_s + _KILL_MARGIN_S,
        needs=core.database_path if core.database_url == "sqlite" else core.data_dir,
    )


def _edge(arguments: argparse.Namespace, config: Config, edge: EdgeSettings) -> Program:
    target = f"unix:{config.core.socket_path.absolute()}"
    return Program(
        name="edge",
        # A port of 0 has become a real one by now.
        command=edge_command(arguments, port=edge.port, core=target),
        environ=environment.for_edge(frozenset({edge.edge_key_env}), os.environ),
        grace_s=edge.drain_s + edge.grace_s + _KILL_MARGIN_S,
    )
