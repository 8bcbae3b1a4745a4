"""The first start's key: organization `default`, project `default`, one key."""

from __future__ import annotations

from collections.abc import Mapping

from maniac_core.config import CoreConfig
from maniac_core.services.keys import KeyService
from maniac_core.storage import open_database
from maniac_core.storage.keys import KeyStore

KEY_VARIABLE = "MANIAC_API_KEY"


async def ensure_key(config: CoreConfig, environ: Mapping[str, str]) -> str | None:
    """Make the first key when the database has none and return its secret; None: there are keys already.

    What `MANIAC_API_KEY` holds is taken as the key, if it is set.

    Raises:
        StorageError: the database cannot be used.
        GatewayError: DEPENDENCY_UNAVAILABLE.
    """
    database = open_database(config)
    await database.start()
    try:
        service = KeyService(KeyStore(database))
        if await service.list():
            return None
        _, secret = await service.create("first key", secret=environ.get(KEY_VARIABLE) or None)
        return secret
    finally:
        await database.close()
