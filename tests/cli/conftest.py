"""The real command as a subprocess, in a folder and an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from maniac_core.local.pull import verify
from ports import free_ports

_ROOT = Path(__file__).parents[2]
_MODEL = "smollm2-135m-instruct"
_COMMAND = (sys.executable, "-m", "maniac_core.cli.main")
_CONFIG = """
[core]
local_model = "off"
grace_s = 5
[edge]
grace_s = 5
[providers.demo]
kind = "scripted"
models = ["echo"]
rules = [
  { contains = "slowly", text = "One two three four five six.", chunk_delay_s = 0.2 },
  { contains = "endlessly", text = "One two three four five six seven.", chunk_delay_s = 0.5 },
]
"""


class Serve:
    """A running `maniac-gateway serve`."""

    def __init__(self, folder: Path, environ: dict[str, str], *options: str) -> None:
        self.errors = folder / "errors.txt"
        port, grpc_port = free_ports(2)
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*_COMMAND, "serve", f"--port={port}", f"--grpc-port={grpc_port}", *options],
                cwd=folder,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.banner = "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        """Yield what it prints until it is ready, or ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line
            if line == "ready\n":
                return

    @property
    def url(self) -> str:
        """Where it says it listens."""
        return self._find(r"^HTTP +(\S+)/v1")

    @property
    def key(self) -> str:
        """The key that it printed."""
        return self._find(r"^ +(mk-\S+)$")

    def _find(self, pattern: str) -> str:
        match = re.search(pattern, self.banner, re.MULTILINE)
        assert match, self.banner + self.errors.read_text()
        return match[1]

    def child(self, name: str) -> int:
        """Return the process id of the child whose command line has the name in it."""
        found = [pid for pid, command in self.children().items() if name in command]
        assert len(found) == 1, self.children()
        return found[0]

    def children(self) -> dict[int, str]:
        """Return the command lines of its child processes."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self.process.pid:
                found[int(folder.name)] = command
        return found


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment without anything that configures a gateway."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MANIAC_") and not name.endswith("_API_KEY")
    }


@pytest.fixture
def run(tmp_path: Path, environ: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command to its end; `variables` are added to the environment."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_COMMAND, *arguments],
            check=False,
            cwd=tmp_path,
            env={**environ, **variables},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def serve(tmp_path: Path, environ: dict[str, str]) -> Iterator[Callable[..., Serve]]:
    """Start `serve` with a scripted provider, unless `config` says otherwise, and wait until it is ready.

    `can_start` false: until it has ended.
    """
    started: list[Serve] = []

    def start(
        *options: str, config: str = _CONFIG, can_start: bool = True, **variables: str
    ) -> Serve:
        file = tmp_path / "gateway.toml"
        file.write_text(config)
        serve = Serve(tmp_path, {**environ, **variables}, f"--config={file}", *options)
        started.append(serve)
        assert can_start == serve.banner.endswith("ready\n"), (
            serve.banner + serve.errors.read_text()
        )
        return serve

    yield start
    for serve in started:
        # Its children go with it.
        serve.process.kill()
        serve.process.wait()
        assert serve.process.stdout is not None
        serve.process.stdout.close()


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The embedded model: where `make run` put it, or fetched once per machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "maniac-gateway-tests"
    for folder in (_ROOT / "data", cache):
        path = folder / "models" / f"{_MODEL}.gguf"
        if path.is_file() and verify(_MODEL, path):
            return path
    pulled = subprocess.run(
        [*_COMMAND, "pull", _MODEL, f"--data-dir={cache}"],
        check=False,
        capture_output=True,
        text=True,
    )
    if pulled.returncode:
        # The last line is the command's own; those above it are of pip.
        said = pulled.stderr.strip().rpartition("\n")[2]
        reason = f"the embedded model is not here and cannot be fetched: {said}"
        if os.environ.get("MANIAC_TEST_REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    return cache / "models" / f"{_MODEL}.gguf"
