"""Installs other gateways outside this project's environment and runs them in front of the mock upstream.

    python -m bench.others install litellm portkey
    python -m bench.others run litellm --upstream http://127.0.0.1:9100/v1

They go to ~/.cache/maniac-gateway-bench (or $XDG_CACHE_HOME), nothing else is touched. Each runs as its own
documentation advises for production, on one worker, as ours does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bench import procstat
from bench.host import free_port
from bench.process import Running, StartError, started, stop_on_sigterm
from bench.target import Target

_LITELLM_KEY = "sk-bench-0123456789abcdef"
_LITELLM_CONFIG = """\
model_list:
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {upstream}
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  request_timeout: 600
  set_verbose: false
  json_logs: true
  telemetry: false
"""
# With the newest server library that its range allows, this version answers every stream with 500
# ("TypeError: immutable"); with this one it works.
_PORTKEY_PACKAGE = """\
{
  "dependencies": { "@portkey-ai/gateway": "1.15.2" },
  "overrides": { "@hono/node-server": "1.13.8" }
}
"""


class _Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How one gateway is started."""

    command: list[str]
    environ: dict[str, str] = {}
    ready_path: str
    target: Target


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway to compare with."""

    version: str
    features: tuple[str, ...]
    is_installed: Callable[[Path], bool]
    install: Callable[[Path], None]
    launch: Callable[[Path, str, int], _Launch]
    """From where it is installed, the upstream's base URL and the port to listen on."""


def cache_directory() -> Path:
    """Return where other gateways are installed."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "maniac-gateway-bench"


def _install_litellm(directory: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    pip = directory / "bin" / "pip"
    package = f"litellm[proxy]=={OTHERS['litellm'].version}"
    subprocess.run([str(pip), "install", "--quiet", package], check=True)


def _launch_litellm(directory: Path, upstream: str, port: int) -> _Launch:
    config = directory / f"config-{port}.yaml"
    config.write_text(_LITELLM_CONFIG.format(upstream=upstream, key=_LITELLM_KEY))
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    return _Launch(
        command=[str(directory / "bin" / "litellm"), *arguments, "--num_workers", "1"],
        environ={"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "NO_PROXY": "127.0.0.1"},
        ready_path="/health/liveliness",
        target=Target(url=f"http://127.0.0.1:{port}/v1", key=_LITELLM_KEY),
    )


def _install_portkey(directory: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise StartError("npm: not found")
    (directory / "package.json").write_text(_PORTKEY_PACKAGE)
    flags = ["--no-fund", "--no-audit", "--silent"]
    subprocess.run([npm, "install", *flags, "--prefix", str(directory)], check=True)


def _launch_portkey(directory: Path, upstream: str, port: int) -> _Launch:
    program = directory / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": upstream}
    return _Launch(
        command=["node", str(program), f"--port={port}", "--headless"],
        environ={"NODE_ENV": "production"},
        ready_path="/",
        target=Target(url=f"http://127.0.0.1:{port}/v1", headers=headers),
    )


OTHERS = {
    "litellm": Other(
        version="1.106.2",
        features=("master key", "prices", "request log in memory"),
        is_installed=lambda directory: (directory / "bin" / "litellm").exists(),
        install=_install_litellm,
        launch=_launch_litellm,
    ),
    "portkey": Other(
        version="1.15.2",
        features=("no keys", "no capture"),
        is_installed=lambda directory: (directory / "node_modules" / "@portkey-ai").exists(),
        install=_install_portkey,
        launch=_launch_portkey,
    ),
}


def install(name: str) -> None:
    """Install a gateway in the pinned version, unless it is there.

    Raises:
        StartError: its package manager is not on this machine.
        subprocess.CalledProcessError: the package manager failed.
    """
    directory = _directory(name)
    if not OTHERS[name].is_installed(directory):
        directory.mkdir(parents=True, exist_ok=True)
        OTHERS[name].install(directory)


@contextlib.contextmanager
def other(name: str, upstream: str, logs: Path, *, cpu: int | None = None) -> Iterator[Running]:
    """Run a gateway that is installed; its log goes to the directory `logs`.

    Raises:
        StartError: it is not installed or did not come up.
    """
    kind = OTHERS[name]
    if not kind.is_installed(_directory(name)):
        raise StartError(f"not installed: python -m bench.others install {name}")
    port = free_port()
    launch = kind.launch(_directory(name), upstream, port)
    with started(
        launch.command,
        ready_url=f"http://127.0.0.1:{port}{launch.ready_path}",
        log=logs / f"{name}.log",
        environ=launch.environ,
        cpu=cpu,
        within_s=120.0,
    ) as pid:
        yield Running(
            name=name,
            target=launch.target,
            roles={"gateway": procstat.process_tree(pid)},
            features=kind.features,
            version=kind.version,
        )


def _directory(name: str) -> Path:
    return cache_directory() / f"{name}-{OTHERS[name].version}"


def main() -> None:
    """Install gateways, or run one until interrupted."""
    parser = argparse.ArgumentParser(description="other gateways to compare with")
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install in the cache directory")
    installing.add_argument("names", nargs="+", choices=sorted(OTHERS))
    running = commands.add_parser("run", help="run one until interrupted")
    running.add_argument("name", choices=sorted(OTHERS))
    running.add_argument("--upstream", required=True, help="base URL with /v1")
    running.add_argument("--cpu", type=int, help="pin to this CPU")
    options = parser.parse_args()
    stop_on_sigterm()
    if options.command == "install":
        for name in options.names:
            install(name)
            print(f"{name} {OTHERS[name].version} is in {_directory(name)}")
        return
    with (
        tempfile.TemporaryDirectory(prefix="maniac-bench-") as logs,
        other(options.name, options.upstream, Path(logs), cpu=options.cpu) as gateway,
    ):
        headers = [f"--header {key}:{value}" for key, value in gateway.target.headers.items()]
        print(f"--url {gateway.target.url} --key {gateway.target.key} {' '.join(headers)}")
        print(f"processes: {gateway.roles}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
