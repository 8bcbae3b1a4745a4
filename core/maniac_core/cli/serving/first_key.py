"""The first start's key: organization `default`, project `default`, one key."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from maniac_core.cli.database import opened
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.services.access.authenticator import hash_key
from maniac_core.services.access.keys import KeyService
from maniac_core.storage.stores.keys import KeyStore

KEY_VARIABLE = "MANIAC_API_KEY"
_SHORTEST = 16
# Characters that a header carries unchanged.
_KEY = re.compile(r"[!-~]+")


class FirstKey(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that a start found."""

    secret: str | None
    """The key that was made; None: there are keys already."""
    is_foreign: bool = False
    """Whether `MANIAC_API_KEY` holds something that is not a key of this gateway."""


async def ensure_key(config: CoreConfig, environ: Mapping[str, str]) -> FirstKey:
    """Make the first key when the database has none. What `MANIAC_API_KEY` holds is taken as the key, if it is set.

    Raises:
        ConfigError: that is not a key: too short, or with characters that a header cannot carry.
        StorageError: the database cannot be used.
        GatewayError: DEPENDENCY_UNAVAILABLE.
    """
    given = environ.get(KEY_VARIABLE) or None
    async with opened(config) as database:
        store = KeyStore(database)
        service = KeyService(store)
        if await service.list():
            is_foreign = given is not None and await store.resolve(hash_key(given)) is None
            return FirstKey(secret=None, is_foreign=is_foreign)
        if given is not None:
            _check(given)
        _, secret = await service.create("first key", secret=given)
        return FirstKey(secret=secret)


def _check(key: str) -> None:
    if len(key) < _SHORTEST:
        raise ConfigError(
            f"{KEY_VARIABLE} is shorter than {_SHORTEST} characters, so it could be guessed: choose a longer one, "
            "or unset it, and a key is made"
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"{KEY_VARIABLE} has blanks or characters outside ASCII, which no header carries: choose another, "
            "or unset it, and a key is made"
        )
