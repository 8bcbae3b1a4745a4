"""One-line messages for failed commands: what, where, and what to do. Defects of the program keep their traceback."""

from __future__ import annotations

import argparse
import errno
import os
import pwd
import sys
from pathlib import Path

from maniac_core.cli.hints import with_options
from maniac_core.config.core import ConfigError
from maniac_core.domain.errors import DependencyError, GatewayError
from maniac_core.masking import mask

FAILED = 1
MISUSED = 2


class UsageError(Exception):
    """A command was given something that it cannot work with; the message is a line for the user."""


_ELSEWHERE = "name another folder with --data-dir, or [core] data_dir"
# SQLite's messages for a file that is damaged or not a database.
_DAMAGED = ("disk image is malformed", "file is not a database")
_REMEDIES = {
    errno.ENOSPC: "make room, then try again",
    errno.EDQUOT: "make room, then try again",
    errno.EROFS: _ELSEWHERE,
    errno.EEXIST: "move it away, or name another path",
    errno.ENOTDIR: "name a folder, or move that file away",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (ulimit -n)",
}


def report(err: Exception, arguments: argparse.Namespace) -> int:
    """Say what a command failed for, on standard error, and return its exit status.

    Raises:
        Exception: `err` itself, where the program is at fault and not what it was given.
    """
    if isinstance(err, ConfigError):
        text, status = str(err), MISUSED
    elif isinstance(err, DependencyError | UsageError | OSError):
        text, status = describe(err), FAILED
    elif isinstance(err, GatewayError):
        text, status = f"{err.message}{f' ({err.__cause__})' if err.__cause__ else ''}", FAILED
    else:
        raise err
    text = with_options(" ".join(text.split()), arguments)
    sys.stderr.write(f"maniac-gateway: {mask(text)}\n")
    return status


def describe(err: Exception) -> str:
    """Return an error's text; of one of the system which path it is about, the reason, and what to do."""
    if not isinstance(err, OSError) or err.strerror is None:
        text = str(err)
        is_damaged = any(words in text for words in _DAMAGED)
        return f"{text}; restore a backup of it, or {_ELSEWHERE}" if is_damaged else text
    name = err.filename2 or err.filename
    reason = err.strerror[:1].lower() + err.strerror[1:]
    if name is None or isinstance(name, int):
        return f"{reason}{_remedy(err.errno)}"
    path = Path(os.fsdecode(name))
    if err.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: {reason}; {_whose(path)}"
    return f"{path}: {reason}{_remedy(err.errno)}"


def _remedy(number: int | None) -> str:
    remedy = _REMEDIES.get(number or 0)
    return f"; {remedy}" if remedy else ""


def _whose(path: Path) -> str:
    """Return whose the path is, or the nearest folder above it that can be looked at, and what to do."""
    for place in (path, *path.absolute().parents):
        try:
            owner = place.stat().st_uid
        except OSError:
            continue
        if owner == os.geteuid():
            return f"it is this user's own: chmod u+rwX {place}"
        what = "it" if place == path.absolute() else str(place)
        return (
            f"{what} belongs to {_name(owner)}, and this is {_name(os.geteuid())}: "
            f"run the command as {_name(owner)}, or {_ELSEWHERE}"
        )
    return _ELSEWHERE


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
