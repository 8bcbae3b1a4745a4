"""`maniac-gateway migrate --to URL`: moves an install from SQLite to PostgreSQL."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path

from maniac_core.cli.progress import Progress
from maniac_core.cli.serving.data_dir import is_locked
from maniac_core.config.checks import check_url
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.storage.engines import POSTGRES_SCHEMES, is_postgres

NOT_FINISHED = 3
"""Exit status: the gateway runs, so there is more to copy once it is stopped."""
_SHARES = 1000


def move_to(config: CoreConfig, url: str) -> int:
    """Copy what is not copied yet, say what that was, and return the exit status.

    Raises:
        ConfigError: the URL is not PostgreSQL's, or the install is not in SQLite.
    """
    if not is_postgres(url, "--to"):
        raise ConfigError("--to: not the URL of a PostgreSQL database")
    try:
        check_url("--to", url, POSTGRES_SCHEMES)
    except ValueError as err:
        raise ConfigError(str(err)) from None
    if is_postgres(config.database_url):
        raise ConfigError("[core] database_url: the install is in PostgreSQL already")
    from maniac_core.storage.move.move import move  # noqa: PLC0415 - needs an extra

    bars = _Bars()
    started = time.monotonic()
    try:
        outcome = asyncio.run(
            move(
                config.database_path,
                url,
                is_running=lambda: _is_running(config),
                report=bars.show,
            )
        )
    finally:
        bars.end()
    for table in outcome.tables:
        sys.stdout.write(f"{table.name:24}{table.rows:>14,} rows  sha256 {table.sha256.hex()}\n")
    sys.stdout.write(f"copied and compared in {time.monotonic() - started:.0f} s\n")
    if not outcome.is_finished:
        sys.stdout.write(
            "The gateway still runs on this data. Stop it and run this command again: "
            "it copies what is left.\n"
        )
        return NOT_FINISHED
    sys.stdout.write("Now set [core] database_url to the new database, and start the gateway.\n")
    return 0


def _is_running(config: CoreConfig) -> bool:
    return is_locked(config.data_dir) or _answers(config.socket_path)


def _answers(path: Path) -> bool:
    """Whether a core listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path.absolute()))
        except OSError:
            return False
    return True


class _Bars:
    """One progress bar per table."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._bar: Progress | None = None
        self._last = (0, 0)

    def show(self, name: str, share: float, rows: int) -> None:
        """Draw how much of a table is done."""
        if name != self._name:
            self.end()
            self._name = name
            self._bar = Progress(sys.stderr, _SHARES, noun=f"rows of {name}")
        assert self._bar is not None
        self._last = (int(share * _SHARES), rows)
        self._bar.show(*self._last)

    def end(self) -> None:
        """Leave the running bar as it is."""
        if self._bar is not None:
            self._bar.end(*self._last)
            self._bar = None
