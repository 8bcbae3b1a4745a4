"""`maniac-gateway encrypt-bodies`: encrypts what was captured before there was a key, or with an older one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from maniac_core.cli.database import require_file
from maniac_core.cli.settings import load_core
from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.storage.base import StorageError
from maniac_core.storage.engines import open_sealed
from maniac_core.storage.stores.text_index import TextIndexStore


def run(arguments: argparse.Namespace) -> int:
    """Encrypt every body with the first key, and return the exit status."""
    config = load_core(arguments).core
    keys = os.environ.get(config.body_key_env)
    if not keys:
        raise ConfigError(
            f"{config.body_key_env} is not set: put the keys there, the newest first "
            "(`openssl rand -base64 32` makes one)"
        )
    try:
        require_file(config)
        count = asyncio.run(_encrypt(config, keys))
    except StorageError as err:
        sys.stderr.write(f"maniac-gateway: {err}\n")
        return 1
    sys.stdout.write(f"encrypted {count} completions with the first key\n")
    return 0


async def _encrypt(config: CoreConfig, keys: str) -> int:
    database = open_sealed(config, keys)
    await database.start()
    try:
        if await TextIndexStore(database).covered():
            raise ConfigError(
                "the index of texts holds them unencrypted: run `maniac-gateway drop-text-index` first"
            )
        return await database.seal_all()
    finally:
        await database.close()
