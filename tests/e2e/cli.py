"""The `maniac-gateway` command beside a running gateway."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Protocol


class Installation(Protocol):
    """What commands need to know: a Gateway, or a Cluster."""

    config: Path
    data_dir: Path
    environ: dict[str, str]


def run_command(gateway: Installation, *arguments: str) -> str:
    """Run a command on the gateway's data and return what it printed."""
    command = [sys.executable, "-m", "maniac_core.cli.main", *arguments]
    command += [f"--config={gateway.config}", f"--data-dir={gateway.data_dir}"]
    ran = subprocess.run(
        command, env=gateway.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
