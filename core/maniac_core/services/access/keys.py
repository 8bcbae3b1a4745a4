"""API keys: made, listed and revoked by the operator."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from maniac_core.domain.audit import COMMAND, Actor
from maniac_core.domain.budgets import Limit
from maniac_core.domain.callers import ApiKey
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import now_s
from maniac_core.domain.scopes import DEFAULT_SCOPES, scopes_of
from maniac_core.services.access.authenticator import hash_key
from maniac_core.storage.stores.keys import KeyStore

_PREFIX_LENGTH = 9


class KeyService:
    """Manages keys of all projects."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def create(
        self,
        name: str,
        *,
        project: str = "default",
        organization: str = "default",
        expires: int | None = None,
        secret: str | None = None,
        rate_limit: int | None = None,
        token_limit: int | None = None,
        budget: Limit | None = None,
        scopes: Collection[str] = DEFAULT_SCOPES,
        by: Actor = COMMAND,
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its secret, which cannot be read again.

        `expires` is Unix seconds. A project or an organization that is not there is made. `secret` takes a given text
        as the key. `rate_limit` and `token_limit` are requests and tokens per window of this key alone, and `budget`
        is what it may spend; None: no limit of its own. `scopes` are what it may do, and `by` is who makes it.

        Raises:
            GatewayError: VALIDATION_ERROR; DEPENDENCY_UNAVAILABLE.
        """
        if not 1 <= len(name) <= 128:
            raise GatewayError(
                Reason.ERROR_REASON_VALIDATION_ERROR, "name must have 1 to 128 characters."
            )
        try:
            granted = scopes_of(scopes)
        except ValueError as err:
            raise GatewayError(
                Reason.ERROR_REASON_VALIDATION_ERROR, f"{err}.", param="scopes"
            ) from None
        if not granted:
            raise GatewayError(
                Reason.ERROR_REASON_VALIDATION_ERROR, "scopes must not be empty.", param="scopes"
            )
        _check_positive("rate_limit", rate_limit)
        _check_positive("token_limit", token_limit)
        _check_positive("budget", budget.nano_usd if budget else None)
        secret = secret or "mk-" + secrets.token_urlsafe(32)
        key = await self._store.create(
            name=name,
            secret_hash=hash_key(secret),
            prefix=secret[:_PREFIX_LENGTH],
            project=project,
            organization=organization,
            expires=expires,
            rate_limit=rate_limit,
            token_limit=token_limit,
            budget=budget,
            scopes=granted,
            by=by,
        )
        return key, secret

    async def list(self, project: str | None = None) -> list[ApiKey]:
        """Return the keys of a project (name or id), or all, newest first.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        return await self._store.list(project)

    async def revoke(self, key_id: str, by: Actor = COMMAND) -> ApiKey:
        """Revoke a key by id or prefix; revoking twice changes nothing.

        Raises:
            GatewayError: API_KEY_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        key = await self._store.revoke(key_id, now_s(), by)
        if key is None:
            raise GatewayError(
                Reason.ERROR_REASON_API_KEY_NOT_FOUND, f"There is no key {key_id!r}."
            )
        return key


def _check_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise GatewayError(
            Reason.ERROR_REASON_VALIDATION_ERROR, f"{name} must be above 0.", param=name
        )
