"""Starts our gateway as real processes in front of an upstream, with everything on that it has.

python -m bench.gateway --upstream http://127.0.0.1:9100/v1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import procstat
from bench.host import free_port, revision
from bench.process import Running, started, stop_on_sigterm
from bench.target import Target

COMMAND = Path(sys.executable).with_name("maniac-gateway")
"""The command of the environment that runs the benchmark."""
KEY = "mk-bench-0123456789abcdef0123456789abcdef"
RATE_LIMIT = 1_000_000_000
"""High enough never to refuse: it is counted all the same."""
BUDGET_USD = 1_000_000
MODEL = "openai/gpt-4o-mini"
"""A model with a known price, so that each request is priced."""


@contextlib.contextmanager
def gateway(
    upstream: str,
    directory: Path,
    *,
    name: str = "maniac-gateway",
    command: Path = COMMAND,
    database_url: str = "sqlite",
    tree: Path | None = None,
    cpu: int | None = None,
    has_budget: bool = True,
) -> Iterator[Running]:
    """Run `serve` with its data under `directory`; `tree` is the working tree the command comes from.

    Raises:
        StartError: it did not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port, grpc_port = free_port(), free_port()
    config = directory / "bench.toml"
    config.write_text(_config(upstream, database_url))
    arguments = ("--config", config, "--data-dir", directory, "--port", port)
    with started(
        [str(command), "serve", *map(str, arguments), "--grpc-port", str(grpc_port)],
        ready_url=f"http://127.0.0.1:{port}/healthz",
        log=directory / "serve.log",
        environ={"MANIAC_API_KEY": KEY, "MANIAC_BENCH_UPSTREAM_KEY": "none"},
        cpu=cpu,
    ) as pid:
        features = ["keys", "rate limit", "prices", f"durable capture ({_engine(database_url)})"]
        if has_budget:
            _set_budget(command, config, directory)
            features.append("budget")
        yield Running(
            name=name,
            target=Target(url=f"http://127.0.0.1:{port}/v1", key=KEY, model=MODEL),
            roles=_roles(pid),
            features=tuple(features),
            version=revision() if tree is None else revision(tree),
            grpc_port=grpc_port,
        )


def _set_budget(command: Path, config: Path, directory: Path) -> None:
    """Give the key's organization a budget that is reserved from and charged, and never reached."""
    words = ("budgets", "set", "organization", "default", "--usd", str(BUDGET_USD))
    places = ("--config", str(config), "--data-dir", str(directory))
    subprocess.run([str(command), *words, *places], check=True, capture_output=True)


def _config(upstream: str, database_url: str) -> str:
    return f"""\
[core]
database_url = {json.dumps(database_url)}
rate_limit = {RATE_LIMIT}
local_model = "off"

[providers.openai]
base_url = {json.dumps(upstream)}
api_key_env = "MANIAC_BENCH_UPSTREAM_KEY"
"""


def _engine(database_url: str) -> str:
    return "SQLite" if database_url == "sqlite" else database_url.partition(":")[0]


def _roles(root: int) -> dict[str, list[int]]:
    """Tell edge, core and the rest apart by how they were started."""
    roles: dict[str, list[int]] = {"edge": [], "core": [], "supervisor": []}
    for pid in procstat.process_tree(root):
        words = procstat.command_line(pid)
        if any(word in ("edge", "maniac_edge") for word in words):
            roles["edge"].append(pid)
        elif any(word in ("core", "maniac_core") for word in words):
            roles["core"].append(pid)
        else:
            roles["supervisor"].append(pid)
    return roles


def main() -> None:
    """Run the gateway until interrupted, and say how to reach it."""
    parser = argparse.ArgumentParser(description="our gateway in front of an upstream")
    parser.add_argument("--upstream", required=True, help="base URL with /v1")
    parser.add_argument("--data-dir", type=Path, help="default: a temporary one")
    parser.add_argument("--database-url", default="sqlite")
    parser.add_argument("--cpu", type=int, help="pin all its processes to this CPU")
    options = parser.parse_args()
    stop_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="maniac-bench-") as temporary:
        directory = options.data_dir or Path(temporary)
        with gateway(
            options.upstream, directory, database_url=options.database_url, cpu=options.cpu
        ) as running:
            target = running.target
            print(f"--url {target.url} --key {target.key} --model {target.model}")
            print(f"processes: {running.roles}; log: {directory / 'serve.log'}", flush=True)
            signal.pause()


if __name__ == "__main__":
    main()
