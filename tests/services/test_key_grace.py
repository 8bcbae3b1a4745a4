"""The grace of known keys: how long it is, and that it is none for what is not known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from maniac_core.domain.errors import GatewayError
from maniac_core.domain.ids import now_s
from maniac_core.services.access import authenticator as auth
from maniac_core.services.access.authenticator import Authenticator, hash_key
from maniac_core.storage.base import Database
from maniac_core.storage.sqlite.database import SQLiteDatabase
from maniac_core.storage.sqlite.migrate import migrate
from maniac_core.storage.stores.keys import KeyStore

GRACE_S = 60.0


class Clock:
    """Time as the authenticator sees it."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._start_s = now_s()

    def monotonic(self) -> float:
        """Seconds that have passed."""
        return self.passed_s

    def time(self) -> float:
        """Unix seconds."""
        return self._start_s + self.passed_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=clock.monotonic, time=clock.time))
    return clock


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    database = SQLiteDatabase(tmp_path / "gateway.db")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def keys(database: Database) -> KeyStore:
    """Three keys: a good one, one that expires in half a minute, and one that is revoked."""
    keys = KeyStore(database)
    for name, expires in (("good", None), ("brief", now_s() + 30), ("revoked", None)):
        await keys.create(
            name=name,
            secret_hash=hash_key(name),
            prefix=name,
            project="p",
            organization="o",
            expires=expires,
        )
    await keys.revoke("revoked", now_s())
    return keys


async def _outcome(authenticator: Authenticator, key: str) -> str | None:
    """Return the code that a key is refused with; None: it is accepted."""
    try:
        await authenticator.authenticate(f"Bearer {key}")
    except GatewayError as err:
        return err.mapping.code
    return None


INVALID, UNAVAILABLE = "invalid_api_key", "auth_unavailable"


async def test_a_grace_holds_for_known_keys_until_it_ends(
    keys: KeyStore, database: Database, clock: Clock
) -> None:
    """Within it known keys are what they were, and may expire; after it no key is known."""
    authenticator = Authenticator(keys, None, GRACE_S)
    for key in ("good", "brief", "revoked"):
        await _outcome(authenticator, key)
    await database.close()
    authenticator.contact(False)

    clock.passed_s = 20
    within = [await _outcome(authenticator, key) for key in ("good", "brief", "revoked", "new")]
    clock.passed_s = 50
    expired = await _outcome(authenticator, "brief")
    clock.passed_s = GRACE_S + 1
    after = [await _outcome(authenticator, key) for key in ("good", "brief", "revoked", "new")]
    authenticator.contact(True)
    back = await _outcome(authenticator, "good")

    assert within == [None, None, INVALID, UNAVAILABLE]
    assert expired == INVALID
    assert after == [UNAVAILABLE] * 4
    assert back is None


async def test_without_contact_a_database_that_answers_is_believed(
    keys: KeyStore, clock: Clock
) -> None:
    """What can't be heard of is looked up: a revocation holds at once, and good keys go on."""
    authenticator = Authenticator(keys, None)
    assert await _outcome(authenticator, "good") is None
    authenticator.contact(False)
    clock.passed_s = 1
    assert await _outcome(authenticator, "good") is None
    await keys.revoke("good", now_s())
    assert await _outcome(authenticator, "good") == INVALID
