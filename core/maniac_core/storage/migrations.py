"""The numbered SQL files of each engine, and what of them a database lacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources

import msgspec

from maniac_core.storage.base import StorageError
from maniac_core.storage.queries import Dialect

_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


class Migration(msgspec.Struct, frozen=True):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def label(self) -> str:
        """Number and name, as the file is called."""
        return f"{self.version:04d}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped_migrations(dialect: Dialect) -> list[Migration]:
    """Return the migrations of this program for an engine, in order."""
    folder = resources.files("maniac_core.storage") / "sql" / "migrations" / dialect
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := _FILE.match(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


def missing(
    recorded: Iterable[tuple[int, str, str]], steps: Sequence[Migration]
) -> list[Migration]:
    """Return those of `steps` that a database lacks; `recorded` is version, name and checksum of what it has.

    Raises:
        StorageError: it was written by a newer program, or an applied migration was changed since.
    """
    known = {step.version: step for step in steps}
    applied = set()
    for version, name, checksum in recorded:
        if version not in known:
            raise StorageError(
                f"the database has migration {version:04d}_{name}, which this program does not know: "
                "it was written by a newer version; run that one, or restore a backup"
            )
        if checksum != known[version].checksum:
            raise StorageError(
                f"migration {version:04d}_{name} was changed after it had been applied to this database"
            )
        applied.add(version)
    return [step for step in steps if step.version not in applied]


def require_none(lacking: Sequence[Migration]) -> None:
    """Refuse a database that lacks migrations.

    Raises:
        StorageError: it does; the message says what to do.
    """
    if lacking:
        raise StorageError(
            f"the database lacks migration {lacking[0].label}: run `maniac-gateway migrate`"
        )
