"""llama.cpp on this machine: whether it can be loaded, and the variables that it takes.

Its wheel needs an OpenMP runtime, `libgomp.so.1`, which small installations of Linux do not have. The extra `local`
installs one beside it; the loader is pointed there only where the system has none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

INSTALL = ".venv/bin/pip install '.[local]'"
"""The command that installs llama.cpp, in the repository's folder."""
_RUNTIME = "cmeel-libomp"
_LIBRARY = "libgomp.so.1"
_LIBRARY_PATH = "LD_LIBRARY_PATH"
_TRIAL_S = 60
_MAGIC = b"GGUF"


class LlamaError(Exception):
    """The embedded model cannot be served; the message says why and what to do."""


def loading_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a process needs in its environment, besides `environ`, to load llama.cpp. Blocks for a trial.

    Raises:
        LlamaError: it is not installed, or cannot be loaded.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise LlamaError(f"llama.cpp is not installed; {INSTALL}")
    reason = _trial(environ)
    if reason is None:
        return {}
    folder = _bundled_runtime()
    if _LIBRARY in reason and folder is not None:
        path = environ.get(_LIBRARY_PATH)
        variables = {_LIBRARY_PATH: f"{folder}{os.pathsep}{path}" if path else str(folder)}
        reason = _trial({**environ, **variables})
        if reason is None:
            return variables
    remedy = (
        "apt install libgomp1 (on Debian)" if _LIBRARY in reason else f"reinstall it: {INSTALL}"
    )
    raise LlamaError(f"llama.cpp cannot be loaded ({reason}); {remedy}")


def check_file(path: Path) -> None:
    """Look at the first bytes of a model file.

    Raises:
        LlamaError: it cannot be read, or is not in the GGUF format.
    """
    try:
        with path.open("rb") as file:
            is_gguf = file.read(len(_MAGIC)) == _MAGIC
    except OSError as err:
        raise LlamaError(f"{path} cannot be read: {err.strerror}") from err
    if not is_gguf:
        raise LlamaError(f"{path} is not a GGUF file")


def _trial(environ: Mapping[str, str]) -> str | None:
    """Load it in a process of its own: compiled for another processor, it would end this one. Return the problem."""
    command = [sys.executable, "-c", "import xllamacpp"]
    try:
        trial = subprocess.run(  # noqa: S603 - fixed words
            command, check=False, capture_output=True, text=True, env=environ, timeout=_TRIAL_S
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_TRIAL_S} s"
    if trial.returncode == 0:
        return None
    if trial.returncode < 0:
        return f"signal {-trial.returncode}: probably not made for this processor"
    return (trial.stderr.strip().splitlines() or [f"exit status {trial.returncode}"])[-1]


def _bundled_runtime() -> Path | None:
    try:
        distribution = importlib.metadata.distribution(_RUNTIME)
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file("cmeel.prefix/lib")))
    return folder if (folder / _LIBRARY).is_file() else None
