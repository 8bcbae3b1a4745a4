"""The one statement that captures a batch of records: every table's rows in one round trip, kept or refused together.

It is put together from the statements that are executed for many rows: each gets its columns as arrays. Positions of
the ledger are taken inside it, so that their order is that of commits as far as readers can tell: rows come with their
number within the batch, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.capture_rows import RowValues, rows_of
from maniac_core.storage.postgres.connection import Connection, without_nul
from maniac_core.storage.queries import Queries

_INSERT = re.compile(r"INSERT INTO (\w+) \(([^)]+)\) VALUES \([?, ]+\)")
_LONGEST_KEY = 512
"""Characters; longer text is too long for an index."""
_IDS = "insert_completion_id"
# All cores execute them in this order, so that whoever waits for a row of another holds none that the other waits for.
_STATEMENTS = (
    *(_IDS, "insert_completion", "insert_body", "insert_attempt", "insert_facet"),
    *("fold_completion_counts", "fold_facet_counts", "fold_usage", "fold_usage_tags"),
    "fold_usage_tag_days",
    *(
        "fold_traces",
        "insert_trace_container",
        "answer_claim",
        "drop_reservation",
        "shrink_reservation",
        "charge_budget",
    ),
)
_TAKEN = "taken AS MATERIALIZED (SELECT take_positions(CAST($1 AS bigint)) AS seqs)"
_POSITIONS = frozenset({"seq", "first_seq"})
_COLUMN_TYPES = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""


class CaptureStatement(msgspec.Struct, frozen=True):
    """The text, and how many columns each of the statements in it takes.

    Its rows are the ids of the records that their keys stand for from now on.
    """

    sql: str
    widths: Mapping[str, int]

    def arguments(self, records: Sequence[CompletionRecord]) -> list[Any]:
        """Return how many records there are and the columns of all their rows, as the text takes them."""
        tables = _with_times(rows_of(records, 1))
        unknown = tables.keys() - self.widths.keys()
        if unknown:
            raise LookupError(f"no statement of a capture writes {min(unknown)}")
        columns: list[Any] = [len(records)]
        for name, width in self.widths.items():
            rows = tables.get(name)
            columns += zip(*rows, strict=True) if rows else [()] * width
        return columns


async def capture_statement(connection: Connection, queries: Queries) -> CaptureStatement:
    """Return the statement for the schema that the connection sees."""
    parts: list[str] = []
    widths: dict[str, int] = {}
    total = 1
    for name in _STATEMENTS:
        text = await _with_arrays(connection, queries.text(name))
        width = text.count("?")
        for number in range(total + 1, total + width + 1):
            text = text.replace("?", f"${number}", 1)
        parts.append(f"{name} AS (\n{text}\n)")
        widths[name] = width
        total += width
    return CaptureStatement(
        f"WITH {_TAKEN}, {', '.join(parts)}\nSELECT completion AS id FROM answer_claim", widths
    )


async def _with_arrays(connection: Connection, text: str) -> str:
    """Return an INSERT of one row as an INSERT of many; any other text as it is."""
    match = _INSERT.match(text)
    if match is None:
        return text
    columns = [column.strip() for column in match[2].split(",")]
    types = {row["name"]: row["type"] for row in await connection.fetch(_COLUMN_TYPES, match[1])}
    arrays = ", ".join(f"CAST(? AS {types[column]}[])" for column in columns)
    values = ", ".join(
        f"taken.seqs[rows.{column}]" if column in _POSITIONS else f"rows.{column}"
        for column in columns
    )
    head = (
        f"INSERT INTO {match[1]} ({match[2]})\n"
        f"SELECT {values} FROM taken, unnest({arrays}) AS rows ({match[2]})"
    )
    return head + text[match.end() :]


def _with_times(tables: dict[str, list[RowValues]]) -> dict[str, list[RowValues]]:
    """Return the rows with what only PostgreSQL keeps: the month of an attempt, and where an id is."""
    created: dict[int, int] = {}
    ids: list[RowValues] = []
    for seq, record_id, project, _, _, time, *_ in tables["insert_completion"]:
        created[seq] = time
        ids.append((project, record_id, time, seq))
    ids.sort()
    attempts = [(created[row[0]], *row) for row in tables["insert_attempt"]]
    return {**tables, _IDS: ids, "insert_attempt": attempts}


def fitting(record: CompletionRecord) -> CompletionRecord:
    """Return the record as PostgreSQL can hold it: text without U+0000, keys of indexes cut off."""
    record = _without_nul(record)
    trace = None
    if record.trace is not None:
        trace = _without_nul(record.trace)
        trace = msgspec.structs.replace(trace, id=trace.id[:_LONGEST_KEY])
    return msgspec.structs.replace(
        record,
        model=record.model and record.model[:_LONGEST_KEY],
        trace=trace,
        attempts=tuple(map(_without_nul, record.attempts)),
    )


def _without_nul(value: Any) -> Any:
    fields = {name: without_nul(getattr(value, name)) for name in value.__struct_fields__}
    return type(value)(**fields)
