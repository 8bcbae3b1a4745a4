"""Migrations: applied once, in order, whole or not at all, and never past what this program knows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from maniac_core.storage.base import StorageError
from maniac_core.storage.migrations import Migration, shipped_migrations
from maniac_core.storage.sqlite.database import SQLiteDatabase
from maniac_core.storage.sqlite.migrate import migrate

_FIRST = Migration(1, "first", "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);")
_SECOND = Migration(2, "second", "ALTER TABLE a ADD COLUMN y INTEGER;\n-- The end.\n")


def _read(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_shipped_migrations_apply_once(tmp_path: Path) -> None:
    """A new file gets all of them in order; a second time there is nothing to do."""
    path = tmp_path / "deep" / "gateway.db"
    labels = [migration.label for migration in shipped_migrations("sqlite")]
    assert migrate(path) == labels
    assert labels[0] == "0001_initial"
    before = _read(path, "SELECT * FROM schema_migrations")
    assert migrate(path) == []
    assert _read(path, "SELECT * FROM schema_migrations") == before


def test_numbers_of_shipped_migrations_have_no_gap() -> None:
    """Their numbers are 1 to n, so that their order is plain."""
    versions = [migration.version for migration in shipped_migrations("sqlite")]
    assert versions == list(range(1, len(versions) + 1))


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """The file holds prompts: it is made without rights for others, and so is its log."""
    path = tmp_path / "gateway.db"
    migrate(path)
    assert path.stat().st_mode & 0o077 == 0


def test_later_migrations_are_added(tmp_path: Path) -> None:
    """A file of an older program gets what is new, and keeps its data."""
    path = tmp_path / "x.db"
    assert migrate(path, [_FIRST]) == ["0001_first"]
    assert migrate(path, [_FIRST, _SECOND]) == ["0002_second"]
    assert _read(path, "SELECT x, y FROM a") == [(1, None)]


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """A program that does not know an applied migration touches nothing and says so."""
    path = tmp_path / "x.db"
    migrate(path, [_FIRST, _SECOND])
    with pytest.raises(StorageError, match=r"0002_second.*newer"):
        migrate(path, [_FIRST])


def test_a_changed_migration_is_refused(tmp_path: Path) -> None:
    """A migration whose text changed after it was applied is an error, not a guess."""
    path = tmp_path / "x.db"
    migrate(path, [_FIRST])
    changed = msgspec.structs.replace(_FIRST, sql=_FIRST.sql + "\n")
    with pytest.raises(StorageError, match="0001_first was changed"):
        migrate(path, [changed, _SECOND])
    assert _read(path, "SELECT * FROM a") == [(1,)]


@pytest.mark.parametrize("end", ["INSERT INTO missing VALUES (1);", "CREATE TABLE c (x"])
def test_a_failing_migration_leaves_nothing(tmp_path: Path, end: str) -> None:
    """A migration that fails half way, or ends inside a statement, is undone; those before it stay."""
    path = tmp_path / "x.db"
    broken = Migration(2, "broken", f"CREATE TABLE b (x INTEGER); {end}")
    with pytest.raises(StorageError):
        migrate(path, [_FIRST, broken])
    tables = _read(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    assert tables == [("a",), ("schema_migrations",)]
    assert migrate(path, [_FIRST, _SECOND]) == ["0002_second"]


def test_budgets_of_an_older_file_keep_their_ids_and_give_them_to_no_other(tmp_path: Path) -> None:
    """Also of a budget that was removed while a request ran that had reserved of it; that goes."""
    path = tmp_path / "gateway.db"
    migrate(path, [one for one in shipped_migrations("sqlite") if one.version < 9])
    script = """
        INSERT INTO budgets VALUES (3, 1, 0, 0, 'day', 500, 11), (7, 1, 2, 4, 'total', 9, 12);
        INSERT INTO budget_windows VALUES (3, 86400, 40), (7, 0, 5);
        INSERT INTO budget_reservations VALUES ('a', 3, 86400, 6, 99);
    """
    removed = "INSERT INTO budget_reservations VALUES ('b', 9, 0, 8, 99)"
    tables = ("budgets", "budget_windows", "budget_reservations")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        before = [_read(path, f"SELECT * FROM {name} ORDER BY 1") for name in tables]
        connection.executescript(removed)
    until = [one for one in shipped_migrations("sqlite") if one.version < 10]
    assert "0009_budget_ids" in migrate(path, until)
    assert [_read(path, f"SELECT * FROM {name} ORDER BY 1") for name in tables] == before
    changes = "SELECT version FROM cache_versions WHERE name = 'budgets'"
    [(told,)] = _read(path, changes)
    add = "INSERT INTO budgets VALUES (NULL, 5, 0, 0, 'day', 1, 1) RETURNING id"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(add).fetchall() == [(10,)]
        connection.execute("UPDATE budgets SET limit_nano_usd = 2 WHERE id = 10")
        connection.execute("DELETE FROM budgets WHERE id = 10")
        assert connection.execute(add).fetchall() == [(11,)]
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(add)
    assert _read(path, changes) == [(told + 4,)], "running cores are told of each change"


def test_starters_at_the_same_time_are_safe(tmp_path: Path) -> None:
    """Of several processes that start on one new file, each migration is applied by exactly one."""
    path = tmp_path / "gateway.db"
    code = (
        "import sys, pathlib; from maniac_core.storage.sqlite.migrate import migrate; sys.stdin.read();"
        "print(*migrate(pathlib.Path(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    applied: list[str] = []
    for process in processes:
        assert process.stdout is not None
        with process:
            applied += process.stdout.read().split()
        assert process.returncode == 0
    assert sorted(applied) == [migration.label for migration in shipped_migrations("sqlite")]


async def test_an_unmigrated_file_does_not_start(tmp_path: Path) -> None:
    """A database that is missing, empty, older or newer is refused at the start, with what to do."""
    path = tmp_path / "x.db"
    for prepare, message in (
        (lambda: None, "maniac-gateway migrate"),
        (path.touch, "maniac-gateway migrate"),
        (lambda: migrate(path, shipped_migrations("sqlite")[:-1]), "maniac-gateway migrate"),
        (
            lambda: migrate(path, [*shipped_migrations("sqlite"), Migration(99, "later", "")]),
            "newer",
        ),
        (lambda: path.write_bytes(b"no database " * 1_000), "not a database"),
    ):
        prepare()
        database = SQLiteDatabase(path)
        with pytest.raises(StorageError, match=message):
            await database.start()
        await database.close()
