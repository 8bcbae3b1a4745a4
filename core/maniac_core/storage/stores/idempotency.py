"""Idempotency keys of chat requests."""

from __future__ import annotations

import msgspec

from maniac_core.storage.base import Database, Statement


class KeyState(msgspec.Struct, frozen=True, kw_only=True):
    """The request and answer of a key."""

    fingerprint: bytes
    completion: str | None
    """Id of the record that answered. None: the request runs."""


class IdempotencyStore:
    """Keys of all projects; every method sees one project only.

    A claim lasts `lease_s` seconds by the clock of the database, the same number for all cores. What a key stands for
    is written with the record of its request, if the claim is still the request's own; see `CompletionRecord.claim`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, project: int, key: str, *, fingerprint: bytes, owner: str, lease_s: int
    ) -> bool:
        """Claim a key that is free, or whose claim or time is over; return whether it worked.

        Other keys whose time is over are removed.
        """
        params = {
            "project": project,
            "key": key,
            "fingerprint": fingerprint,
            "owner": owner,
            "lease_s": lease_s,
        }
        rows, _ = await self._database.write(
            [
                Statement("claim_idempotency_key", params),
                Statement("forget_idempotency_keys"),
            ]
        )
        return bool(rows)

    async def find(self, project: int, key: str, *, lease_s: int) -> KeyState | None:
        """Return what a key stands for; None: it can be claimed."""
        row = await self._database.fetch_one(
            "find_idempotency_key", {"project": project, "key": key, "lease_s": lease_s}
        )
        if row is None:
            return None
        return KeyState(fingerprint=bytes(row["fingerprint"]), completion=row["completion"])

    async def renew(self, project: int, key: str, *, owner: str, lease_s: int) -> bool:
        """Keep a claim while its request runs; return False if another request has the key by now."""
        params = {"project": project, "key": key, "owner": owner, "lease_s": lease_s}
        (rows,) = await self._database.write([Statement("renew_idempotency_key", params)])
        return bool(rows)

    async def release(self, project: int, key: str, *, owner: str) -> None:
        """Free the key of a request that failed; one that stands for a record stays."""
        params = {"project": project, "key": key, "owner": owner}
        await self._database.write([Statement("release_idempotency_key", params)])
