"""The tables of an install as they are moved: their columns and keys in SQLite, and where they go in PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlite_utils import Database

from maniac_core.storage.postgres.connection import without_nul

RowValues = tuple[Any, ...]
_LONGEST_KEY = 512
"""Characters; longer text is too long for an index of PostgreSQL."""
_CUT = frozenset({"model", "trace_id", "trace"})
_KEPT_APART = frozenset({"schema_migrations", "cache_versions"})
_LEDGER = ("completions", "completion_bodies", "attempts", "completion_facets")


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the source."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """Its primary key."""
    texts: frozenset[str]
    """Columns of text."""
    select: str
    """Its rows, without any condition."""

    def page(self, *, low: int, high: int, after: Sequence[Any] | None) -> tuple[str, list[Any]]:
        """Return what selects its rows with `seq` above `low` and up to `high`, from a key on, by key."""
        condition, values = "seq > ? AND seq <= ?", [low, high]
        if after is not None:
            marks = ", ".join("?" for _ in self.key)
            condition += f" AND ({', '.join(self.key)}) > ({marks})"
            values += after
        order = ", ".join(self.key)
        return f"SELECT * FROM ({self.select}) WHERE {condition} ORDER BY {order}", values  # noqa: S608 - our own names

    def by_key(self) -> str:
        """Return what selects all of its rows by key."""
        return f"{self.select} ORDER BY {', '.join(self.key)}"

    def key_of(self, row: RowValues) -> list[Any]:
        """Return the key of a row."""
        return [row[self.columns.index(column)] for column in self.key]

    def share(self, key: Sequence[Any], low: int, high: int) -> float:
        """Return how much of the rows between two positions stands before a key."""
        if self.key[0] == "seq":
            return float(key[0] - low) / (high - low)
        # The facets, which begin with a hash.
        return int.from_bytes(key[0][:4], "big") / (1 << 32)

    def fitting(self, row: RowValues) -> RowValues:
        """Return a row as PostgreSQL can hold it: text without U+0000, keys of indexes cut off."""
        cut = _CUT | ({"id"} if self.name == "traces" else set())
        return tuple(
            without_nul(value)[:_LONGEST_KEY]
            if column in cut and isinstance(value, str)
            else without_nul(value)
            for column, value in zip(self.columns, row, strict=True)
        )


def ledger_tables(source: sqlite3.Connection) -> list[Table]:
    """Return the tables with rows per completion, which only grow."""
    schema = _schema(source)
    return [_table(schema, name) for name in _LEDGER]


def other_tables(source: sqlite3.Connection) -> list[Table]:
    """Return all other tables, each after those that it refers to."""
    schema = _schema(source)
    names = {name for name in schema.table_names() if not name.startswith("sqlite_")}
    # The index of texts is made anew there, if it is wanted.
    names -= {name for name in names if name.startswith("text_index")}
    names -= _KEPT_APART.union(_LEDGER)
    referred = {
        name: {key.other_table for key in schema.table(name).foreign_keys} & names for name in names
    }
    return [_table(schema, name) for name in _in_order(referred)]


def _in_order(referred: dict[str, set[str]]) -> Iterator[str]:
    left = dict(sorted(referred.items()))
    while left:
        ready = [name for name, others in left.items() if not (others - {name}) & left.keys()]
        for name in ready:
            del left[name]
            yield name


def _schema(source: sqlite3.Connection) -> Database:
    # As a reader of the schema only: the connection's own settings stand.
    return Database(source, recursive_triggers=False, execute_plugins=False)


def _table(schema: Database, name: str) -> Table:
    table = schema.table(name)
    columns = tuple(column.name for column in table.columns)
    select = f"SELECT {', '.join(columns)} FROM {name}"  # noqa: S608 - names of our own schema
    if name == "attempts":
        # There it is kept by time.
        select = (
            f"SELECT {', '.join(f'a.{column}' for column in columns)}, c.created"  # noqa: S608 - as above
            " FROM attempts a JOIN completions c USING (seq)"
        )
        columns = (*columns, "created")
    texts = frozenset(column.name for column in table.columns if column.type == "TEXT")
    return Table(name=name, columns=columns, key=tuple(table.pks), texts=texts, select=select)
