"""API keys, projects and organizations in the database. Only hashes of keys are ever seen here."""

from __future__ import annotations

import uuid

import msgspec

from maniac_core.domain.audit import COMMAND, Actor
from maniac_core.domain.budgets import Limit
from maniac_core.domain.callers import ApiKey, Caller
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.scopes import ALL_SCOPES, DEFAULT_SCOPES, Scope, scopes_of
from maniac_core.storage.base import Database, Row, Statement
from maniac_core.storage.stores.audit import audited_key


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved key; the caller decides whether it may be used now."""

    caller: Caller
    expires: int | None
    """Unix seconds. None: never."""
    revoked: int | None
    """Unix seconds. None: not revoked."""
    disabled: bool


class KeyStore:
    """Keys, and the projects and organizations that are made with them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resolve(self, key_hash: bytes) -> KeyRow | None:
        """Return what the key with that SHA-256 stands for, or None if there is none."""
        row = await self._database.fetch_one("resolve_key", {"secret_hash": key_hash})
        if row is None:
            return None
        return KeyRow(
            caller=msgspec.structs.replace(
                _caller(row, key=row["key"]),
                is_budgeted=bool(row["is_budgeted"]),
                rate_limit=row["rate_limit"],
                token_limit=row["token_limit"],
                scopes=scopes_of(row["scopes"].split(",")),
                key_name=row["key_name"],
            ),
            expires=row["expires"],
            revoked=row["revoked"],
            disabled=bool(row["disabled"]),
        )

    async def find_project(self, project: str) -> Caller | None:
        """Return the internal service as a caller in the project of that id or name; of a name, the oldest."""
        row = await self._database.fetch_one("find_project", {"project": project})
        return None if row is None else _caller(row, key=None)

    async def create(
        self,
        *,
        name: str,
        secret_hash: bytes,
        prefix: str,
        project: str,
        organization: str,
        expires: int | None = None,
        rate_limit: int | None = None,
        token_limit: int | None = None,
        budget: Limit | None = None,
        scopes: frozenset[Scope] = DEFAULT_SCOPES,
        by: Actor = COMMAND,
    ) -> ApiKey:
        """Make a key, and its project and organization if no such names exist; with it its limits and its budget.

        `project` and `organization` are names or ids; text in the form of a UUID is always an id. A project given by
        its id brings its organization with it.

        Raises:
            GatewayError: PROJECT_NOT_FOUND, no project or organization of that id.
            ConstraintError: that secret is a key already.
        """
        uid, created = uuid_id(), now_s()
        tenancy = {"project": project, "organization": organization, "created": created}
        key = {
            **tenancy,
            "uid": uid,
            "name": name,
            "prefix": prefix,
            "secret_hash": secret_hash,
            "expires": expires,
            "rate_limit": rate_limit,
            "token_limit": token_limit,
            "scopes": ",".join(sorted(scopes)),
        }
        if _is_uuid(project):
            statements = [Statement("add_key_by_project_id", key)]
        else:
            statements = [
                Statement("add_project", {**tenancy, "uid": uuid_id()}),
                Statement("add_key", key),
            ]
            if not _is_uuid(organization):
                add = Statement("add_organization", {**tenancy, "uid": uuid_id()})
                statements.insert(0, add)
        if budget is not None:
            limit = {"limit": budget.nano_usd, "period": budget.period}
            statements.append(
                Statement("add_key_budget", {**limit, "uid": uid, "created": created})
            )
        details = {"name": name, "prefix": prefix, "scopes": sorted(scopes)}
        statements.append(audited_key(by, "key.created", uid, details))
        statements.append(Statement("find_keys", {"key": uid}))
        rows = (await self._database.write(statements))[-1]
        if not rows:
            raise GatewayError(
                Reason.ERROR_REASON_PROJECT_NOT_FOUND,
                "There is no project or organization with that id.",
            )
        return _api_key(rows[0])

    async def list(self, project: str | None = None) -> list[ApiKey]:
        """Return the keys of the project of that id, or of all projects of that name, or all; newest first."""
        if project is None:
            rows = await self._database.fetch_all("list_keys")
        else:
            rows = await self._database.fetch_all("list_keys_of_project", {"project": project})
        return [_api_key(row) for row in rows]

    async def revoke(self, key: str, now: int, by: Actor = COMMAND) -> ApiKey | None:
        """Revoke the key of that id or prefix, for good; again does nothing. None: there is none.

        Raises:
            GatewayError: CONFLICT, several keys have that prefix; none is revoked.
        """
        results = await self._database.write(
            [
                Statement("revoke_key", {"key": key, "now": now}),
                audited_key(by, "key.revoked", key, {}),
                Statement("find_keys", {"key": key}),
            ]
        )
        rows = results[-1]
        if len(rows) > 1:
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                "Several keys have that prefix; give the id of the key.",
            )
        return _api_key(rows[0]) if rows else None


def _caller(row: Row, key: int | None) -> Caller:
    return Caller(
        key=key,
        project=row["project"],
        organization=row["organization"],
        project_id=row["project_id"],
        organization_id=row["organization_id"],
        is_internal=key is None,
        scopes=ALL_SCOPES if key is None else DEFAULT_SCOPES,
    )


def _api_key(row: Row) -> ApiKey:
    return ApiKey(
        id=row["uid"],
        name=row["name"],
        prefix=row["prefix"],
        project_id=row["project_id"],
        project=row["project"],
        organization_id=row["organization_id"],
        organization=row["organization"],
        created=row["created"],
        expires=row["expires"],
        revoked=row["revoked"],
        disabled=bool(row["disabled"]),
        rate_limit=row["rate_limit"],
        token_limit=row["token_limit"],
        scopes=scopes_of(row["scopes"].split(",")),
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
