"""Chooses the storage engine by the configuration; the one place to register another."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping

from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.storage.base import Database
from maniac_core.storage.sealed.database import SealedDatabase
from maniac_core.storage.sqlite.database import SQLiteDatabase
from maniac_core.storage.sqlite.migrate import migrate
from maniac_core.storage.sqlite.text_index import drop_text_index as drop_sqlite_text_index

POSTGRES_SCHEMES = ("postgresql", "postgres")


def open_database(config: CoreConfig, environ: Mapping[str, str] = os.environ) -> Database:
    """Return the configured engine, not yet started; with body keys in the environment, one that encrypts.

    Raises:
        ConfigError: `database_url` names no engine, or a body key cannot be used.
    """
    keys = environ.get(config.body_key_env)
    if keys and config.text_index:
        raise ConfigError(
            f"[core] text_index and {config.body_key_env}: an index holds the texts unencrypted; set one of the two"
        )
    return open_sealed(config, keys) if keys else _open_engine(config)


def open_sealed(config: CoreConfig, keys: str) -> SealedDatabase:
    """Return the configured engine with bodies encrypted by these keys; see `body_key_env`.

    Raises:
        ConfigError: as `open_database`.
    """
    # Only where it is wanted: the library takes long to import.
    from maniac_core.storage.sealed.cipher import BodyCipher, read_keys  # noqa: PLC0415

    try:
        cipher = BodyCipher(read_keys(keys))
    except ValueError as err:
        raise ConfigError(f"{config.body_key_env}: {err}") from None
    return SealedDatabase(_open_engine(config), cipher)


def _open_engine(config: CoreConfig) -> Database:
    if is_postgres(config.database_url):
        from maniac_core.storage.postgres.database import PostgresDatabase  # noqa: PLC0415 - an extra

        return PostgresDatabase(
            config.database_url,
            pool=config.database_pool,
            timeout_s=config.database_timeout_s,
        )
    return SQLiteDatabase(config.database_path, synchronous=config.sqlite_synchronous)


def migrate_database(config: CoreConfig) -> list[str]:
    """Bring the configured database to the schema of this program; blocks. Returns the names of what was applied.

    Raises:
        ConfigError: `database_url` names no engine.
        StorageError: the database is newer than this program, or cannot be written.
    """
    if is_postgres(config.database_url):
        from maniac_core.storage.postgres.migrate import migrate_postgres  # noqa: PLC0415 - an extra

        return migrate_postgres(config.database_url, text_index=config.text_index)
    return migrate(config.database_path, text_index=config.text_index)


def drop_text_index(config: CoreConfig) -> None:
    """Drop the index of texts, if there is one; blocks.

    Raises:
        ConfigError: `database_url` names no engine.
        StorageError: the database cannot be written.
    """
    if is_postgres(config.database_url):
        from maniac_core.storage.postgres.migrate import drop_postgres_text_index  # noqa: PLC0415 - an extra

        drop_postgres_text_index(config.database_url)
    else:
        drop_sqlite_text_index(config.database_path)


def is_postgres(url: str, where: str = "[core] database_url") -> bool:
    """Whether the URL names PostgreSQL, and not SQLite.

    Raises:
        ConfigError: it names neither, or PostgreSQL's driver is not installed.
    """
    if url == "sqlite":
        return False
    scheme = url.partition(":")[0]
    if scheme not in POSTGRES_SCHEMES:
        raise ConfigError(f"{where}: no engine for `{scheme}`; known: `sqlite`, `postgresql://...`")
    if importlib.util.find_spec("asyncpg") is None:
        raise ConfigError(
            f"{where}: PostgreSQL needs its driver: .venv/bin/pip install '.[postgres]'"
        )
    return True
