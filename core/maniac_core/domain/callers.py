"""Who calls: what a key resolves to, and a key as it is shown."""

from __future__ import annotations

import msgspec

from maniac_core.domain.scopes import DEFAULT_SCOPES, Scope

Spender = tuple[int, int, int | None]
"""The ids shared by callers who spend from the same budgets."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The caller that a key resolves to. The integers are the storage's own keys."""

    key: int | None
    """None: the internal service key."""
    project: int
    organization: int
    project_id: str
    organization_id: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    """The scopes of the key."""
    key_name: str | None = None
    """The name given to the key at its creation, for logs. None: the internal service key."""
    is_internal: bool = False
    """Bypasses limits and billing."""
    is_budgeted: bool = False
    """Whether a budget of the key, its project or its organization applies."""
    rate_limit: int | None = None
    """The key's own requests per window. None: no limit of its own."""
    token_limit: int | None = None
    """The key's own tokens per window. None: no limit of its own."""

    @property
    def spender(self) -> Spender:
        """The spender, as budgets see it."""
        return self.organization, self.project, self.key


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    project_id: str
    project: str
    """Name of the project."""
    organization_id: str
    organization: str
    """Name of the organization."""
    created: int
    """Unix seconds."""
    expires: int | None
    revoked: int | None
    disabled: bool
    rate_limit: int | None = None
    """Requests per window. None: no limit of its own."""
    token_limit: int | None = None
    """Tokens per window. None: no limit of its own."""
    scopes: frozenset[Scope] = DEFAULT_SCOPES
