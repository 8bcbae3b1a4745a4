"""The configuration chooses the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from maniac_core.config.core import ConfigError, CoreConfig, load
from maniac_core.storage import migrate_database, open_database


async def test_the_default_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    """Migrating makes the file, and the database starts on it."""
    config = CoreConfig(data_dir=tmp_path / "data", sqlite_synchronous="full")
    assert migrate_database(config)
    assert config.database_path.exists()
    database = open_database(config)
    await database.start()
    await database.close()


def test_an_unknown_engine_is_refused() -> None:
    """Another URL names what is wrong without repeating its password."""
    config = CoreConfig(database_url="mysql://user:hunter2@host/db")
    for use in (open_database, migrate_database):
        with pytest.raises(ConfigError, match="mysql") as caught:
            use(config)
        assert "hunter2" not in str(caught.value)


def test_postgres_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is an extra; without it the URL is refused with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    config = CoreConfig(database_url="postgresql://user:hunter2@host/db")
    for use in (open_database, migrate_database):
        with pytest.raises(ConfigError, match=r"pip install .*\[postgres\]"):
            use(config)


def test_a_pool_that_is_too_small_is_refused() -> None:
    """Three connections have work of their own, so a fourth is the least."""
    with pytest.raises(ConfigError, match="database_pool"):
        load(None, {}, database_pool=3)
