"""The data folder: made readable by its owner only, and used by one `serve` at a time."""

from __future__ import annotations

import contextlib
import errno
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
        OSError: it cannot be made, or this user may not write in it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    require(folder, os.W_OK | os.X_OK)


def require(path: Path, access: int) -> None:
    """Refuse a path that this user may not use in that way (`os.R_OK` and the like).

    The path is only asked about: to open a SQLite file and close it again would drop SQLite's own locks.

    Raises:
        OSError: it may not be used; with the reason and the path.
    """
    if os.access(path, access):
        return
    path.stat()
    is_read_only = access & os.W_OK and os.statvfs(path).f_flag & os.ST_RDONLY
    number = errno.EROFS if is_read_only else errno.EACCES
    raise OSError(number, os.strerror(number), str(path.absolute()))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, however that ends.

    Raises:
        InUseError: another process holds it.
    """
    with (folder / _LOCK).open("a+b", buffering=0) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(
                f"another gateway (process {lock.read().decode(errors='replace').strip() or 'unknown'}) serves {folder}; "
                "stop it, or name another folder with --data-dir"
            ) from None
        lock.truncate(0)
        try:
            lock.write(str(os.getpid()).encode())
        except OSError as err:
            # The system's own error does not say where there is no room.
            raise OSError(err.errno, err.strerror, str(folder)) from None
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
