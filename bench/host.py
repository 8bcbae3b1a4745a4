"""What the machine is and does while something is measured, and pinning to its CPUs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

_PACKAGES = ("grpcio", "httptools", "litestar", "msgspec", "protobuf", "uvicorn", "uvloop")
ROOT = Path(__file__).resolve().parent.parent
"""The working tree."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and its state."""

    host: str
    cpu: str
    cores: int
    governor: str | None
    """Frequency governor of CPU 0; None: not shown by this kernel."""
    kernel: str
    memory_bytes: int
    load_average: tuple[float, float, float]


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """What ran."""

    revision: str
    """Commit; with `+changes` when the working tree differs from it."""
    python: str
    packages: dict[str, str]


def machine() -> Machine:
    """Return the machine as it is now."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return Machine(
        host=socket.gethostname(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        governor=governor.read_text().strip() if governor.exists() else None,
        kernel=platform.release(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load_average=os.getloadavg(),
    )


def software() -> Software:
    """Return the versions of what runs from this working tree."""
    return Software(
        revision=revision(),
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
    )


def revision(tree: Path = ROOT) -> str:
    """Return the commit of a working tree, marked when it has changes."""
    commit = _git(tree, "rev-parse", "--short=12", "HEAD")
    return commit + ("+changes" if _git(tree, "status", "--porcelain") else "")


def pin(cpu: int | None) -> None:
    """Let this process and its future children run on one CPU only; None: anywhere."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of bench/ in this interpreter, from the working tree."""
    return [sys.executable, "-m", f"bench.{module}", *map(str, arguments)]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
