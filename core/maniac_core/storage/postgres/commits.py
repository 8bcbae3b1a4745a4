"""The units that the writers commit: batches of captured records, and lists of statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.base import ClaimLostError, Row
from maniac_core.storage.postgres.capture import CaptureStatement, capture_statement, fitting
from maniac_core.storage.postgres.connection import (
    Connection,
    as_rows,
    does_not_fit,
    is_passing,
)
from maniac_core.storage.queries import Queries

BoundStatement = tuple[str, Sequence[Any]]
_TRIES = 3
WRITE_LOCK = 0x6D67_0001
"""Advisory lock of everything but captures, so that statements of one write see no other write between them."""


class Captures:
    """Commits records: one statement, and so one round trip and one transaction, for all of them."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._statement: CaptureStatement | None = None

    async def commit(
        self, connection: Connection, records: list[CompletionRecord]
    ) -> list[ClaimLostError | None]:
        """Keep the records; say of which of them another request has the key."""
        if self._statement is None:
            self._statement = await capture_statement(connection, self._queries)
        tries = 0
        while True:
            tries += 1
            try:
                rows = await connection.fetch(
                    self._statement.sql, *self._statement.arguments(records)
                )
            except Exception as err:
                if does_not_fit(err) and len(records) == 1 and tries == 1:
                    records = [fitting(records[0])]
                elif not is_passing(err) or tries == _TRIES:
                    raise
            else:
                answered = {row["id"] for row in rows}
                return [
                    None
                    if record.claim is None or record.id in answered
                    else ClaimLostError("another request has the key")
                    for record in records
                ]


async def commit_writes(
    connection: Connection, writes: list[Sequence[BoundStatement]]
) -> list[list[list[Row]]]:
    """Execute writes one after the other as one transaction; the rows of each statement of each."""
    tries = 0
    while True:
        tries += 1
        try:
            await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({WRITE_LOCK})")
            results = [
                [as_rows(await connection.fetch(sql, *values)) for sql, values in statements]
                for statements in writes
            ]
            await connection.execute("COMMIT")
        except Exception as err:
            # After a timeout the server answers nothing; the writer drops the connection.
            if not connection.is_closed() and not isinstance(err, TimeoutError):
                await connection.execute("ROLLBACK")
            if not is_passing(err) or tries == _TRIES:
                raise
        else:
            return results
