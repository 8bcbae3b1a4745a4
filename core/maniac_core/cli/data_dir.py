"""The data folder: made readable by its owner only, and used by one `serve` at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_LOCK = "serve.lock"


class InUseError(Exception):
    """Another `serve` runs on this data folder."""


def prepare(folder: Path) -> None:
    """Make the folder if it is not there; it will hold prompts, so nobody else may read it.

    One that is there keeps its mode, since it may be for more than this; the files in it are our own in any case.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, however that ends.

    Raises:
        InUseError: another process holds it.
    """
    with (folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(
                f"another `maniac-gateway serve` (process {lock.read().strip() or 'unknown'}) "
                f"uses {folder}; stop it, or name another folder with --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a `serve` runs on the folder."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return False
