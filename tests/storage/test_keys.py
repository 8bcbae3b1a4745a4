"""Keys, and the projects and organizations they belong to."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from maniac_core.domain.callers import ApiKey
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s
from maniac_core.storage.base import ConstraintError
from maniac_core.storage.stores.keys import KeyStore


async def _create(keys: KeyStore, secret: bytes, **changes: Any) -> ApiKey:
    fields = {"name": "n", "prefix": "mk-1", "project": "default", "organization": "default"}
    return await keys.create(secret_hash=secret, **{**fields, **changes})


async def test_a_key_resolves_to_its_project(keys: KeyStore) -> None:
    """A new key stands for its project and organization, in storage's integers and in ids."""
    before = now_s()
    key = await _create(keys, b"h1", name="ci", prefix="mk-abc", project="web", organization="acme")
    assert (key.name, key.prefix, key.project, key.organization) == ("ci", "mk-abc", "web", "acme")
    assert (key.expires, key.revoked, key.disabled) == (None, None, False)
    assert before <= key.created <= now_s()
    for text in (key.id, key.project_id, key.organization_id):
        assert str(uuid.UUID(text)) == text
    row = await keys.resolve(b"h1")
    assert row is not None
    assert (row.expires, row.revoked, row.disabled) == (None, None, False)
    assert row.caller.key is not None
    assert not row.caller.is_internal
    assert (row.caller.project_id, row.caller.organization_id) == (
        key.project_id,
        key.organization_id,
    )


async def test_an_unknown_key_resolves_to_nothing(keys: KeyStore) -> None:
    """A hash that no key has is None."""
    await _create(keys, b"h1")
    assert await keys.resolve(b"h2") is None


async def test_names_are_made_once(keys: KeyStore) -> None:
    """Keys of one project share it; the same name in another organization is another project."""
    first = await _create(keys, b"1", project="web", organization="acme")
    second = await _create(keys, b"2", project="web", organization="acme")
    third = await _create(keys, b"3", project="web", organization="other")
    assert first.project_id == second.project_id != third.project_id
    assert first.organization_id == second.organization_id != third.organization_id


async def test_ids_name_what_exists(keys: KeyStore) -> None:
    """A project by its id brings its organization; an organization by its id takes a new project."""
    first = await _create(keys, b"1", project="web", organization="acme")
    by_project = await _create(keys, b"2", project=first.project_id)
    assert (by_project.project, by_project.organization) == ("web", "acme")
    by_organization = await _create(keys, b"3", project="app", organization=first.organization_id)
    assert (by_organization.project, by_organization.organization) == ("app", "acme")


@pytest.mark.parametrize("field", ["project", "organization"])
async def test_an_unknown_id_makes_nothing(keys: KeyStore, field: str) -> None:
    """A mistyped id is an error, not a new project of that name."""
    with pytest.raises(GatewayError) as caught:
        await _create(keys, b"1", **{field: str(uuid.uuid4())})
    assert caught.value.reason == Reason.ERROR_REASON_PROJECT_NOT_FOUND
    assert await keys.list() == []


async def test_a_secret_is_one_key(keys: KeyStore) -> None:
    """The same secret cannot be two keys."""
    await _create(keys, b"1")
    with pytest.raises(ConstraintError):
        await _create(keys, b"1", project="other")


async def test_keys_are_listed_newest_first(keys: KeyStore) -> None:
    """All keys, or those of a project by name or id; an unknown project has none."""
    a = await _create(keys, b"1", project="a", expires=5)
    b = await _create(keys, b"2", project="b")
    a2 = await _create(keys, b"3", project="a")
    assert await keys.list() == [a2, b, a]
    assert await keys.list("a") == [a2, a]
    assert await keys.list(b.project_id) == [b]
    assert await keys.list("c") == []


async def test_a_revoked_key_stays_revoked(keys: KeyStore) -> None:
    """Revoking by id or by prefix is told on resolving, and the first time counts."""
    key = await _create(keys, b"1", prefix="mk-one")
    await _create(keys, b"2", prefix="mk-two")
    revoked = await keys.revoke("mk-one", 100)
    assert revoked is not None
    assert (revoked.id, revoked.revoked) == (key.id, 100)
    again = await keys.revoke(key.id, 200)
    assert again == revoked
    row, other = await keys.resolve(b"1"), await keys.resolve(b"2")
    assert row is not None
    assert row.revoked == 100
    assert other is not None
    assert other.revoked is None


async def test_an_ambiguous_prefix_revokes_nothing(keys: KeyStore) -> None:
    """With two keys of one prefix the operator must name the id; an unknown one is None."""
    key = await _create(keys, b"1", prefix="mk-x")
    await _create(keys, b"2", prefix="mk-x")
    with pytest.raises(GatewayError) as caught:
        await keys.revoke("mk-x", 1)
    assert caught.value.reason == Reason.ERROR_REASON_CONFLICT
    assert [item.revoked for item in await keys.list()] == [None, None]
    revoked = await keys.revoke(key.id, 1)
    assert revoked is not None
    assert revoked.revoked == 1
    assert await keys.revoke("mk-y", 1) is None


async def test_projects_are_found_by_id_or_name(keys: KeyStore) -> None:
    """The internal service names a project; of several of one name the oldest keeps it."""
    first = await _create(keys, b"1", project="web", organization="acme")
    second = await _create(keys, b"2", project="web", organization="later")
    for name, key in (("web", first), (first.project_id, first), (second.project_id, second)):
        caller = await keys.find_project(name)
        assert caller is not None
        assert (caller.project_id, caller.organization_id) == (key.project_id, key.organization_id)
        assert caller.key is None
        assert caller.is_internal
    assert await keys.find_project("acme") is None
