"""Notices changes, made by any process, of the tables that processes keep in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from maniac_common.supervised import supervised

from maniac_core.storage.base import StorageError
from maniac_core.storage.postgres.connection import FAILURES, Connection, close

_log = logging.getLogger(__name__)
_CHANNEL = "maniac_gateway_changes"
_GATHER_S = 0.01
"""How long the names of one transaction are waited for; they come one by one."""
_CHECK_S = 2.0
"""How often the connection is tried and the versions are compared."""
_PAUSES_S = (0.05, 0.1, 0.2, 0.4)


class Listener:
    """Listens on a connection of its own, and connects again when it is lost.

    After that it tells of every table, because nobody knows what was missed. What a notification did not tell, such
    as one that a pooler swallowed, is found by comparing versions. `notify_contact` is called with False when a lost
    connection could not be replaced at once, and with True when it finally was.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        statement: str,
        notify: Callable[[frozenset[str]], None],
        notify_contact: Callable[[bool], None],
    ) -> None:
        self._connect = connect
        self._statement = statement
        self._notify = notify
        self._notify_contact = notify_contact
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._versions: dict[str, int] = {}
        self._names: set[str] = set()
        self._is_away = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            StorageError: the server cannot be reached.
        """
        await self._open()
        self._task = asyncio.create_task(supervised("listening for changes", self._run))

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await close(self._connection)

    async def _open(self) -> None:
        connection = await self._connect()
        try:
            self._lost.clear()
            connection.add_termination_listener(lambda _: self._lost.set())
            await connection.add_listener(_CHANNEL, self._on_notification)
            # Read after listening has begun, so that no change falls in between.
            self._versions = await self._read(connection)
        except FAILURES as err:
            connection.terminate()
            raise StorageError(f"cannot listen for changes: {type(err).__name__}") from err
        self._connection = connection

    async def _read(self, connection: Connection) -> dict[str, int]:
        return {row["name"]: row["version"] for row in await connection.fetch(self._statement)}

    def _on_notification(self, *arguments: Any) -> None:
        name, _, version = str(arguments[-1]).partition(" ")
        self._note(name, int(version))

    def _note(self, name: str, version: int) -> None:
        if version <= self._versions.get(name, -1):
            return
        self._versions[name] = version
        if not self._names:
            asyncio.get_running_loop().call_later(_GATHER_S, self._tell)
        self._names.add(name)

    def _tell(self) -> None:
        names, self._names = frozenset(self._names), set()
        self._notify(names)

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_CHECK_S):
                    await self._lost.wait()
            except TimeoutError:
                await self._check()
            else:
                await self._reopen()

    async def _check(self) -> None:
        assert self._connection is not None
        try:
            versions = await self._read(self._connection)
        except FAILURES as err:
            _log.warning("storage: the connection for changes is lost: %s", type(err).__name__)
            self._connection.terminate()
            self._lost.set()
            return
        for name, version in versions.items():
            self._note(name, version)

    async def _reopen(self) -> None:
        tries = 0
        while True:
            await asyncio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1
            try:
                await self._open()
            except StorageError:
                if not self._is_away:
                    _log.warning("storage: changes of other processes cannot be heard of")
                    self._notify_contact(False)
                self._is_away = True
                continue
            break
        _log.warning("storage: listening for changes again")
        self._notify(frozenset(self._versions))
        if self._is_away:
            self._notify_contact(True)
        self._is_away = False
