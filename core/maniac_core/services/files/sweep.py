"""Frees objects that no file owns: of uploads that broke off, of processes that died, of deleted files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Generator

from maniac_core.domain.ids import now_s
from maniac_core.storage.base import StorageError
from maniac_core.storage.object_store import ObjectStore, ObjectStoreError
from maniac_core.storage.stores.files import FileStore

_log = logging.getLogger(__name__)
_ROUND_S = 60
_ABANDONED_AFTER_S = 5 * _ROUND_S
"""An object that its process has not touched for this long is nobody's."""
_ANY_TIME = 1 << 62


class Sweeper:
    """Knows which objects this process uses, says so to other processes, and deletes what nobody uses."""

    def __init__(self, store: FileStore, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects
        self._held: Counter[str] = Counter()
        self._dropped: asyncio.Queue[str] = asyncio.Queue()

    @contextlib.contextmanager
    def hold(self, file_id: str) -> Generator[None, None, None]:
        """Keep an object from being freed."""
        self._held[file_id] += 1
        try:
            yield
        finally:
            self._held[file_id] -= 1
            if not self._held[file_id]:
                del self._held[file_id]

    def drop(self, file_id: str) -> None:
        """Have an unowned object deleted soon; one that is held, or that fails, is tried again by a later round.

        It waits for nothing, so that a call that is being cancelled can still say this.
        """
        self._dropped.put_nowait(file_id)

    async def sweep(self, now: int) -> None:
        """Do one round; `now` is Unix seconds."""
        try:
            await self._store.touch(self._held, now)
            abandoned = now - _ABANDONED_AFTER_S
            for file_id in await self._store.unowned(abandoned):
                if not await self._free(file_id, abandoned):
                    return
        except StorageError as err:
            _log.warning("files: unowned objects cannot be listed: %s", err)

    async def run(self) -> None:
        """Do a round a minute, and in between what was dropped, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.sweep(now_s())
            next_round = loop.time() + _ROUND_S
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout_at(next_round):
                        file_id = await self._dropped.get()
                    await self._free(file_id, _ANY_TIME)

    async def _free(self, file_id: str, before: int) -> bool:
        """Return whether it makes sense to go on with others."""
        if file_id in self._held:
            return True
        try:
            if await self._store.condemn(file_id, before):
                await self._objects.delete(file_id)
                await self._store.forget(file_id)
        except (StorageError, ObjectStoreError) as err:
            _log.warning("files: object %s cannot be freed yet: %s", file_id, err)
            return False
        return True
