"""The audit log, on both engines."""

from __future__ import annotations

from pathlib import Path

import msgspec
from maniac_core.config.core import load
from maniac_core.domain.audit import Actor, actor
from maniac_core.domain.budgets import Limit
from maniac_core.domain.callers import Caller
from maniac_core.services.access.configuration_log import note_configuration
from maniac_core.services.access.keys import KeyService
from maniac_core.services.billing.budgets import BudgetService
from maniac_core.storage.base import Database
from maniac_core.storage.stores.audit import AuditStore
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.keys import KeyStore

_ME = Actor(kind="command", name="me")


async def test_entries_name_who_what_and_when(database: Database, caller: Caller) -> None:
    """Newest first; a key is named by its name and prefix, and a page ends where the next begins."""
    keys, log = KeyService(KeyStore(database)), AuditStore(database)
    made, _ = await keys.create("laptop", scopes=["write"], by=_ME)
    await keys.revoke(made.id, actor(caller))
    revoked, created = await log.list(limit=2)

    assert (created.actor, created.name, created.action) == ("command", "me", "key.created")
    assert created.details["scopes"] == ["read", "write"]
    assert (revoked.actor, revoked.action) == ("key", "key.revoked")
    assert {created.resource, revoked.resource} == {made.id}
    assert created.time <= revoked.time
    assert await log.list(limit=1, before=revoked.id) == [created]


async def test_only_what_happened_is_entered(database: Database) -> None:
    """Neither a key that is not there nor a budget that is not there leaves an entry."""
    log, budgets = AuditStore(database), BudgetService(BudgetStore(database))
    key, _ = await KeyService(KeyStore(database)).create("laptop")
    before = await log.list(limit=100)
    assert not await budgets.remove("key", key.id, "day")
    await budgets.set("key", key.id, Limit(nano_usd=5, period="day"))
    assert await budgets.remove("key", key.id, "day")
    after = await log.list(limit=100)

    told = [(event.action, event.resource, event.details) for event in after[: -len(before)]]
    assert told == [
        ("budget.removed", f"key {key.id}", {"period": "day"}),
        ("budget.set", f"key {key.id}", {"period": "day", "limit_nano_usd": 5}),
    ]


async def test_a_configuration_is_entered_when_it_differs(
    database: Database, tmp_path: Path
) -> None:
    """The first start and each change, with the names of the keys that changed and no value."""
    log = AuditStore(database)
    file = tmp_path / "gateway.toml"
    texts = ["", "", "[core]\nrate_limit = 7\nredis_url = 'redis://:hunter2@host/0'"]
    for text in (*texts, texts[-1].replace("hunter2", "hunter3")):
        file.write_text(text)
        await note_configuration(log, load(file, {}))
    second, first = await log.list(limit=10)

    assert first.details["changed"] == []
    assert second.details["changed"] == ["core.rate_limit", "core.redis_url"]
    assert b"hunter" not in msgspec.json.encode([first, second])
