"""PostgreSQL takes every shipped statement, and walks no more of the large tables than it must."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
from maniac_core.storage.postgres.connection import numbered
from maniac_core.storage.postgres.upkeep import FOLDS
from maniac_core.storage.queries import Queries

_QUERIES = Queries.load("postgres")
_LARGE = re.compile(
    "completion|attempts|facet|usage_|traces|trace_containers|idempotency|dataset_items"
)
_LISTS = {
    "list": "project",
    "list_by_model": "project_model",
    "list_by_container": "project_container",
    "list_by_container_model": "project_container_model",
    "list_by_facet": "facet",
}
_VALUES: dict[str, Any] = {
    "int8": 1,
    "int4": 1,
    "numeric": 1,
    "text": "1",
    "bytea": b"1",
    "float8": 1,
    "bool": True,
}
_STATEMENTS = [
    name for name in _QUERIES.names() if "?" not in _QUERIES.text(name) and name not in FOLDS
]


@pytest.fixture
async def connection(
    unused_postgres_url: str,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(unused_postgres_url)
    # The tables are empty here, and reading all of nothing would be best.
    await opened.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    yield opened
    await opened.close()


async def _plan(
    connection: asyncpg.Connection[asyncpg.Record], name: str, facets: tuple[bytes, ...]
) -> list[dict[str, Any]]:
    """Return the steps of a plan, each before those that it is made of."""
    sql, _ = _QUERIES.bind(name, {"facets": facets, "ids": ["a", "b"], "seqs": [1, 2]})
    sql, names = numbered(sql)
    types = (await connection.prepare(sql)).get_parameters()
    # What lies between two equal positions is nothing, and the planner sees that.
    values = [
        1000 if name == "settled" else _VALUES[one.name]
        for name, one in zip(names, types, strict=True)
    ]
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values)
    return list(_steps(msgspec.json.decode(text)[0]["Plan"]))


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _steps(inner)


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_no_statement_scans_a_large_table(
    connection: asyncpg.Connection[asyncpg.Record], name: str
) -> None:
    """Every statement is valid against the shipped schema, and reaches large tables by an index."""
    for facets in ((), (b"a", b"b")):
        scanned = [
            step["Relation Name"]
            for step in await _plan(connection, name, facets)
            if step["Node Type"] == "Seq Scan" and _LARGE.search(step["Relation Name"])
        ]
        assert scanned == []


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("search", _LISTS)
async def test_a_page_comes_sorted_out_of_its_index(
    connection: asyncpg.Connection[asyncpg.Record], search: str, order: str
) -> None:
    """A list reads the index of its filter in its order, month after month or all at once, and stops with the page."""
    for facets in ((), (b"a", b"b")):
        steps = await _plan(connection, f"{search}_{order}", facets)
        [limit] = [step for step in steps if step["Node Type"] == "Limit"]
        page = list(_steps(limit))
        assert not [step for step in page if step["Node Type"] in ("Sort", "Incremental Sort")]
        first = next(step for step in page if "Index Name" in step)
        append = next(step for step in page if "Append" in step["Node Type"])
        if order == "newest":
            key = "pkey" if search == "list_by_facet" else f"{_LISTS[search]}_created_seq"
            assert key in first["Index Name"]
            assert "ROW(" in first["Index Cond"]
            assert append["Node Type"] == "Append"
        else:
            # Months overlap in the order of commits, so they are merged.
            assert f"{_LISTS[search]}_seq" in first["Index Name"]
            assert "seq >" in first["Index Cond"]
            assert append["Node Type"] == "Merge Append"
