"""Authentication: which caller a key stands for, cached so that the hot path never reads the database."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.storage.base import StorageError
from maniac_core.storage.stores.keys import KeyRow, KeyStore

_A = TypeVar("_A")
_R = TypeVar("_R")
_UNKNOWN_TTL_S = 1.0
_MAX_CACHED = 100_000
# Copying a hash costs a tenth of looking its algorithm up.
_SHA256 = hashlib.sha256()


def hash_key(secret: str) -> bytes:
    """Return what is stored of a key. Keys are 256-bit random, so a plain digest cannot be guessed."""
    digest = _SHA256.copy()
    digest.update(secret.encode("utf-8", "surrogateescape"))
    return digest.digest()


class _Cached(msgspec.Struct, frozen=True):
    row: KeyRow | None
    until: float
    """Monotonic seconds; infinite for known keys, which a change notice removes."""


class Authenticator:
    """Resolves keys. `forget` is to be called when any process changed a key, `contact` when that can't be known.

    While it can't be known every key is looked up again, but for those that were known before, during `grace_s`
    seconds.
    """

    def __init__(self, keys: KeyStore, internal_key: str | None, grace_s: float = 0.0) -> None:
        self._keys = keys
        self._grace_s = grace_s
        self._trusted_until = float("inf")
        """Monotonic seconds until which the cache is up to date, or taken to be."""
        self._internal_hash = hash_key(internal_key) if internal_key else None
        self._cache: dict[bytes, _Cached] = {}
        self._projects: dict[str, Caller] = {}
        self._generation = 0

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()
        self._projects.clear()
        self._generation += 1

    def contact(self, is_there: bool) -> None:
        """Whether changes of keys are heard of from now on."""
        self._trusted_until = float("inf") if is_there else time.monotonic() + self._grace_s

    async def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller of an Authorization header.

        Raises:
            GatewayError: MISSING_API_KEY, INVALID_API_KEY, or AUTH_UNAVAILABLE when the key store cannot be read.
        """
        digest = hash_key(bearer_token(authorization))
        cached = self._cache.get(digest)
        now = time.monotonic()
        if cached is None or cached.until < now or self._trusted_until < now:
            generation = self._generation
            row = await _reachable(self._keys.resolve, digest)
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            until = time.monotonic() + _UNKNOWN_TTL_S if row is None else float("inf")
            cached = _Cached(row, until)
            if generation == self._generation:
                # Otherwise a key was changed while this one was read, and it may be from before.
                self._cache[digest] = cached
        row = cached.row
        if row is None or row.disabled or row.revoked is not None:
            raise GatewayError(Reason.ERROR_REASON_INVALID_API_KEY, "Incorrect API key provided.")
        if row.expires is not None and row.expires <= time.time():
            raise GatewayError(Reason.ERROR_REASON_INVALID_API_KEY, "The API key has expired.")
        return row.caller

    def is_internal(self, authorization: str | None) -> bool:
        """Whether the header holds the internal service key."""
        if self._internal_hash is None or authorization is None:
            return False
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            hash_key(token.strip()), self._internal_hash
        )

    async def internal_caller(self, project: str | None) -> Caller:
        """Return the caller of an internal service, which names its project by id or name.

        Raises:
            GatewayError: PROJECT_NOT_FOUND, or AUTH_UNAVAILABLE.
        """
        name = project or "default"
        caller = self._projects.get(name)
        if caller is None:
            caller = await _reachable(self._keys.find_project, name)
            if caller is None:
                raise GatewayError(
                    Reason.ERROR_REASON_PROJECT_NOT_FOUND, f"There is no project {name!r}."
                )
            caller = msgspec.structs.replace(caller, is_internal=True, key=None)
            self._projects[name] = caller
        return caller


def bearer_token(authorization: str | None) -> str:
    """Return the token of a `Bearer` header.

    Raises:
        GatewayError: MISSING_API_KEY.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise GatewayError(
            Reason.ERROR_REASON_MISSING_API_KEY,
            "You didn't provide an API key. Send it as `Authorization: Bearer KEY`.",
        )
    return token


async def _reachable(call: Callable[[_A], Awaitable[_R]], argument: _A) -> _R:
    try:
        return await call(argument)
    except StorageError as err:
        raise GatewayError(
            Reason.ERROR_REASON_AUTH_UNAVAILABLE,
            "The key store cannot be reached; try again shortly.",
            retry_after_s=1,
        ) from err
