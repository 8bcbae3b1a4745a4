"""No statement that lists, counts or finds completions walks more than it must."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from maniac_core.storage.queries import Queries

_QUERIES = Queries.load("sqlite")
_PARAMS = {
    "project": 1,
    "id": "x",
    "seq": 1,
    "created": 1,
    "model": "m",
    "container": 1,
    "facet": b"f",
    "ids": ("x", "y"),
    "settled": 9,
    "limit": 20,
    "skip": 0,
}
_READS = [
    "find_completion",
    "explain_completion",
    "find_position",
    "list_attempts",
    "find_known_ids",
    "find_inputs",
    "last_position",
    "count_completions",
    "count_facet",
    "count_each_facet",
    "count_facets",
]
_LISTS = {
    "list": ("completions_listed", "project=? AND listed=?"),
    "list_by_model": ("completions_model", "project=? AND model=? AND listed=?"),
    "list_by_container": ("completions_container", "project=? AND container=? AND listed=?"),
    "list_by_container_model": (
        "completions_container_model",
        "project=? AND container=? AND model=? AND listed=?",
    ),
    "list_by_facet": ("completion_facets", "facet=?"),
}


def _plan(path: Path, name: str, facets: tuple[bytes, ...]) -> list[str]:
    sql, params = _QUERIES.bind(name, {**_PARAMS, "facets": facets})
    connection = sqlite3.connect(path)
    try:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    finally:
        connection.close()


@pytest.mark.parametrize("facets", [(), (b"a", b"b")])
@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("search", _LISTS)
def test_a_page_is_sought_in_one_index(
    path: Path, search: str, order: str, facets: tuple[bytes, ...]
) -> None:
    """A list seeks to its position in the index of its filter; only the page itself is walked and sorted."""
    plan = _plan(path, f"{search}_{order}", facets)
    index, condition = _LISTS[search]
    if order == "newest":
        index = index if search != "list_by_facet" else "PRIMARY KEY"
        sought = f"{index} ({condition} AND (created,seq)<(?,?))"
    else:
        sought = f"{index}_order ({condition} AND seq>? AND seq<?)"
    assert any(sought in step for step in plan), plan
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN page"]
    sort = "USE TEMP B-TREE FOR ORDER BY"
    assert plan.count(sort) == 1
    assert plan.index(sort) > plan.index("SCAN page"), "the page must come sorted out of its index"


@pytest.mark.parametrize("facets", [(), (b"a", b"b")])
@pytest.mark.parametrize("name", _READS)
def test_reads_search(path: Path, name: str, facets: tuple[bytes, ...]) -> None:
    """Every other read of completions goes by a key."""
    plan = _plan(path, name, facets)
    assert plan
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], plan


def test_every_list_statement_is_covered() -> None:
    """A list of completions that is added must be added here."""
    lists = {name for name in _QUERIES.names() if "completion_bodies" in _QUERIES.text(name)}
    paged = {name for name in lists if re.match(r"list.*_(newest|oldest)$", name)}
    assert paged == {f"{search}_{order}" for search in _LISTS for order in ("newest", "oldest")}
