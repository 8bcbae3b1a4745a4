"""PostgreSQL's side of a move: rows go in, are read back and compared by hash, and how far it came is kept with them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from maniac_core.storage.base import StorageError
from maniac_core.storage.move.tables import RowValues, Table
from maniac_core.storage.postgres.connection import Connection

_CHUNK = 1000
_encode = msgspec.msgpack.Encoder().encode


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of copying a table."""

    last_key: list[Any] | None
    """None: the next row is the first of its pass."""
    total: int
    sha256: bytes


class Target:
    """The database that an install is moved into."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tables: dict[str, str] = {}

    async def copied(self, table: Table) -> Copied:
        """Return how far a table came."""
        row = await self._connection.fetchrow(
            "SELECT last_key, total, sha256 FROM moved_tables WHERE name = $1", table.name
        )
        if row is None:
            return Copied(last_key=None, total=0, sha256=b"")
        key = None if row["last_key"] is None else _decode_key(row["last_key"])
        return Copied(last_key=key, total=row["total"], sha256=row["sha256"])

    async def append(
        self, table: Table, copied: Copied, rows: Sequence[RowValues], low: int, high: int
    ) -> Copied:
        """Add rows that follow what was copied, as one transaction; returns how far it came.

        Raises:
            StorageError: what is read back is not what went in.
        """
        last = table.key_of(rows[-1])
        async with self._connection.transaction():
            await self._connection.copy_records_to_table(
                table.name, records=rows, columns=table.columns
            )
            if table.name == "completions":
                await self._add_ids(table, rows)
            digest = _digest(rows)
            if await self._digest_between(table, copied.last_key, last, low, high) != digest:
                raise StorageError(f"{table.name}: rows that were read back differ")
            moved = Copied(
                last_key=last,
                total=copied.total + len(rows),
                sha256=hashlib.sha256(copied.sha256 + digest).digest(),
            )
            await self._save(table, moved)
        return moved

    async def end_pass(self, watermark: int) -> None:
        """Note that the ledger is here up to a position."""
        async with self._connection.transaction():
            await self._connection.execute("UPDATE moved_tables SET last_key = NULL")
            await self._connection.execute("UPDATE moves SET watermark = $1", watermark)

    async def replace(self, table: Table, rows: Iterable[RowValues]) -> tuple[int, bytes]:
        """Fill an emptied table, and return how many rows that were and the SHA-256 of them.

        Raises:
            StorageError: what is read back is not what went in.
        """
        tally = Tally()
        name = await self._base(table)
        await self._connection.copy_records_to_table(
            name, records=tally.counting(rows), columns=table.columns
        )
        back = Tally()
        order = ", ".join(
            f'{column} COLLATE "C"' if column in table.texts else column for column in table.key
        )
        sql = f"SELECT {', '.join(table.columns)} FROM {name} ORDER BY {order}"  # noqa: S608 - names of our own schema
        async for record in self._connection.cursor(sql, prefetch=_CHUNK):
            back.add(tuple(record))
        if (tally.total, tally.sha256()) != (back.total, back.sha256()):
            raise StorageError(f"{table.name}: rows that were read back differ")
        return tally.total, tally.sha256()

    async def empty(self, tables: Sequence[Table]) -> None:
        """Empty tables, the last first, and what captures would fold into them."""
        for table in reversed(tables):
            await self._connection.execute(f"DELETE FROM {await self._base(table)}")  # noqa: S608 - as above
        await self.drop_deltas(tables)

    async def drop_deltas(self, tables: Sequence[Table]) -> None:
        """Remove what triggers counted while sums were copied as they are."""
        for table in tables:
            if await self._base(table) != table.name:
                await self._connection.execute(f"DELETE FROM {table.name}_deltas")  # noqa: S608 - as above

    async def count(self, table: Table) -> int:
        """Return how many rows a table has here."""
        sql = f"SELECT COUNT(*) FROM {await self._base(table)}"  # noqa: S608 - names of our own schema
        return int(await self._connection.fetchval(sql))

    async def set_sequences(self, last_seq: int) -> None:
        """Let new rows be numbered after those that were copied."""
        rows = await self._connection.fetch(
            "SELECT c.relname AS name, pg_get_serial_sequence(c.relname, a.attname) AS sequence"
            "  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE a.attidentity <> '' AND c.relnamespace = current_schema()::regnamespace"
        )
        for row in rows:
            await self._connection.execute(
                f"SELECT setval('{row['sequence']}', (SELECT COALESCE(MAX(id), 0) + 1 FROM {row['name']}), false)"  # noqa: S608 - as above
            )
        await self._connection.execute(
            "SELECT setval('completion_positions', $1, false)", last_seq + 1
        )

    async def _add_ids(self, table: Table, rows: Sequence[RowValues]) -> None:
        columns = ("project", "id", "created", "seq")
        places = [table.columns.index(column) for column in columns]
        await self._connection.copy_records_to_table(
            "completion_ids",
            records=[tuple(row[place] for place in places) for row in rows],
            columns=columns,
        )

    async def _digest_between(
        self, table: Table, after: list[Any] | None, last: list[Any], low: int, high: int
    ) -> bytes:
        key = ", ".join(table.key)
        values: list[Any] = [low, high, *last]
        condition = f"seq > $1 AND seq <= $2 AND ({key}) <= ({_marks(3, len(last))})"
        if after is not None:
            condition += f" AND ({key}) > ({_marks(3 + len(last), len(after))})"
            values += after
        sql = (
            f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {condition} ORDER BY {key}"  # noqa: S608 - as above
        )
        return _digest([tuple(record) for record in await self._connection.fetch(sql, *values)])

    async def _save(self, table: Table, copied: Copied) -> None:
        await self._connection.execute(
            "INSERT INTO moved_tables (name, last_key, total, sha256) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (name) DO UPDATE SET last_key = excluded.last_key, total = excluded.total,"
            " sha256 = excluded.sha256",
            *(table.name, _encode_key(copied.last_key), copied.total, copied.sha256),
        )

    async def _base(self, table: Table) -> str:
        """Return the table that rows go to: sums are a view there, of what is folded and what is not yet."""
        if table.name not in self._tables:
            folded = f"{table.name}_folded"
            is_view = await self._connection.fetchval("SELECT to_regclass($1) IS NOT NULL", folded)
            self._tables[table.name] = folded if is_view else table.name
        return self._tables[table.name]


class Tally:
    """Counts rows and hashes them, in order."""

    def __init__(self) -> None:
        self.total = 0
        self._hash = hashlib.sha256()

    def add(self, row: RowValues) -> None:
        """Take one more row."""
        self.total += 1
        self._hash.update(_encode(row))

    def counting(self, rows: Iterable[RowValues]) -> Iterator[RowValues]:
        """Yield the rows on."""
        for row in rows:
            self.add(row)
            yield row

    def sha256(self) -> bytes:
        """Return the hash of all rows so far."""
        return self._hash.digest()


def _digest(rows: Sequence[RowValues]) -> bytes:
    return hashlib.sha256(_encode(rows)).digest()


def _marks(first: int, count: int) -> str:
    return ", ".join(f"${number}" for number in range(first, first + count))


def _encode_key(key: list[Any] | None) -> str | None:
    return None if key is None else base64.b64encode(_encode(key)).decode()


def _decode_key(text: str) -> list[Any]:
    return msgspec.msgpack.decode(base64.b64decode(text), type=list[Any])
