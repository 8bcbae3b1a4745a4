"""Months of the ledger: their partitions are made ahead of time, and dropped as a whole.

The partitions of a table follow each other without a gap: what is older than its first month is in `_past`, what is
newer than its last one in `_future`. There is no default partition, because with one the server could not read the
months one after the other.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

import msgspec

from maniac_core.storage.postgres.connection import Connection

PARTITIONED = ("completions", "completion_bodies", "attempts", "completion_facets")
_AHEAD = 2
"""Months beyond the running one that are always there."""
_LOCK = 0x6D67_0002
"""Advisory lock of whoever makes or drops partitions."""
_LOCK_TIMEOUT = "1s"
"""How long to wait for a table: captures wait meanwhile, so it is better tried again later."""
_MONTH = re.compile(r"_(\d{4})_(\d\d)$")


class Month(msgspec.Struct, frozen=True, order=True):
    """A month, in UTC."""

    year: int
    month: int

    @classmethod
    def of(cls, seconds: int) -> Month:
        """Return the month of a time in Unix seconds."""
        time = dt.datetime.fromtimestamp(seconds, dt.UTC)
        return cls(time.year, time.month)

    def plus(self, months: int) -> Month:
        """Return the month so many months later."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)

    @property
    def start(self) -> int:
        """Its first second, in Unix seconds."""
        return int(dt.datetime(self.year, self.month, 1, tzinfo=dt.UTC).timestamp())

    @property
    def suffix(self) -> str:
        """The end of the names of its partitions."""
        return f"_{self.year:04d}_{self.month:02d}"


async def make_partitions(connection: Connection, first_s: int, last_s: int) -> list[str]:
    """Make the partitions of the months from one time to another and of the next two; returns what was made.

    Captures go on meanwhile, but for the moment in which a table is changed.
    """
    first, end = Month.of(first_s), Month.of(last_s).plus(_AHEAD + 1)
    made: list[str] = []
    for table in PARTITIONED:
        months = await months_of(connection, table)
        if not months or first < months[0] or months[-1].plus(1) < end:
            made += await _extend(connection, table, first, end)
    return made


async def months_of(connection: Connection, table: str) -> list[Month]:
    """Return the months that a table has partitions of, in order."""
    rows = await connection.fetch(
        "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = to_regclass($1)",
        table,
    )
    found = (_MONTH.search(row["name"]) for row in rows)
    return sorted(Month(int(match[1]), int(match[2])) for match in found if match)


async def _extend(connection: Connection, table: str, first: Month, end: Month) -> list[str]:
    """Make the months from one to another, not included, that a table lacks before and after what it has."""
    async with connection.transaction():
        await connection.execute(
            f"SELECT pg_advisory_xact_lock({_LOCK}); SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"
        )
        months = await months_of(connection, table)
        if not months:
            await connection.execute(
                f"CREATE TABLE {table}_past (LIKE {table} INCLUDING DEFAULTS);"
                f"CREATE TABLE {table}_future (LIKE {table} INCLUDING DEFAULTS)"
            )
            made = await _make(connection, table, first, end, source=None)
            await _attach(connection, table, "_past", "MINVALUE", first.start)
            await _attach(connection, table, "_future", end.start, "MAXVALUE")
            return made
        made = []
        begin, after = months[0], months[-1].plus(1)
        if first < begin:
            await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_past")
            made += await _make(connection, table, first, begin, source="_past")
            await _attach(connection, table, "_past", "MINVALUE", first.start)
        if after < end:
            await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_future")
            made += await _make(connection, table, after, end, source="_future")
            await _attach(connection, table, "_future", end.start, "MAXVALUE")
    return made


async def _make(
    connection: Connection, table: str, first: Month, end: Month, *, source: str | None
) -> list[str]:
    """Make months with what the detached partition `source` has of them."""
    made: list[str] = []
    month = first
    while month < end:
        following = month.plus(1)
        partition = f"{table}{month.suffix}"
        await connection.execute(f"CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS)")
        if source is not None:
            await connection.execute(
                f"WITH moved AS (DELETE FROM {table}{source}"  # noqa: S608 - our own names
                f" WHERE created >= {month.start} AND created < {following.start} RETURNING *)"
                f" INSERT INTO {partition} SELECT * FROM moved"
            )
        await _attach(connection, table, month.suffix, month.start, following.start)
        made.append(partition)
        month = following
    return made


async def _attach(
    connection: Connection, table: str, suffix: str, low: int | str, high: int | str
) -> None:
    await connection.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {table}{suffix} FOR VALUES FROM ({low}) TO ({high})"
    )


async def drop_empty_months(connection: Connection, now_s: int) -> list[str]:
    """Drop the first months of which retention has left nothing; returns what was dropped.

    Deleted rows leave their space to new ones, but a past month gets no new rows.
    """
    dropped: list[str] = []
    for table in PARTITIONED:
        months = [month for month in await months_of(connection, table) if month < Month.of(now_s)]
        if months and await _is_empty(connection, f"{table}{months[0].suffix}"):
            dropped += await _drop_empty(connection, table, months)
    return dropped


async def drop_first_month(connection: Connection, table: str, month: Month, kept: str) -> bool:
    """Drop the first month of a table, except rows `b` that match a condition: they join the older rows.

    Returns whether it was there and the first. It is one transaction, with whatever the caller does in it.
    """
    async with connection.transaction():
        await connection.execute(
            f"SELECT pg_advisory_xact_lock({_LOCK}); SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"
        )
        if (await months_of(connection, table))[:1] != [month]:
            return False
        partition, past = f"{table}{month.suffix}", f"{table}_past"
        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {past}")
        await connection.execute(
            f"INSERT INTO {past} SELECT b.* FROM {partition} b WHERE {kept}"  # noqa: S608 - our own names
        )
        await connection.execute(f"DROP TABLE {partition}")
        await _attach(connection, table, "_past", "MINVALUE", month.plus(1).start)
    return True


async def _drop_empty(connection: Connection, table: str, months: Sequence[Month]) -> list[str]:
    dropped: list[str] = []
    async with connection.transaction():
        await connection.execute(
            f"SELECT pg_advisory_xact_lock({_LOCK}); SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"
        )
        # From here on nothing is written to the table until it is whole again.
        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {table}_past")
        start = months[0].start
        for month in months:
            partition = f"{table}{month.suffix}"
            if not await _is_empty(connection, partition):
                break
            await connection.execute(f"DROP TABLE {partition}")
            dropped.append(partition)
            start = month.plus(1).start
        await _attach(connection, table, "_past", "MINVALUE", start)
    return dropped


async def _is_empty(connection: Connection, partition: str) -> bool:
    sql = f"SELECT NOT EXISTS (SELECT 1 FROM {partition})"  # noqa: S608 - our own names
    return bool(await connection.fetchval(sql))
