"""Notices changes, made by any process, of the tables that processes keep in memory."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)
_INTERVAL_S = 0.25


class Watcher:
    """Polls the versions that triggers keep, in a thread of its own so that no load can delay it.

    `notify` is called in that thread with the names that changed since construction, or since the last call;
    `notify_contact` with False when a poll fails, and with True when one succeeds again.
    The connection is the watcher's from here on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        statement: str,
        notify: Callable[[frozenset[str]], None],
        notify_contact: Callable[[bool], None],
    ) -> None:
        self._connection = connection
        self._statement = statement
        self._notify = notify
        self._notify_contact = notify_contact
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storage-watcher", daemon=True)
        self._data_version: int | None = None
        self._versions = self._read()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop and close the connection; blocks for the poll that runs."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        is_failing = False
        while not self._stop.wait(_INTERVAL_S):
            try:
                self._poll()
            except Exception:  # noqa: BLE001 - the thread must live
                # Retried at the next poll; logged once, not four times a second.
                if not is_failing:
                    _log.exception("storage: changes of other processes cannot be read")
                    self._notify_contact(False)
                is_failing = True
            else:
                if is_failing:
                    _log.warning("storage: changes of other processes can be read again")
                    self._notify_contact(True)
                is_failing = False

    def _poll(self) -> None:
        # Moves with every commit of another connection: without one, nothing needs to be read.
        (data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if data_version == self._data_version:
            return
        versions = self._read()
        changed = frozenset(
            name for name, version in versions.items() if self._versions.get(name) != version
        )
        if changed:
            self._notify(changed)
        # Last: a notice that failed is given again.
        self._data_version, self._versions = data_version, versions

    def _read(self) -> dict[str, int]:
        return dict(self._connection.execute(self._statement).fetchall())
