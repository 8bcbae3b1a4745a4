"""The file of named statements and the one form of equal JSON."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maniac_core.domain.canonical_json import (
    canonical_json,
    canonicalize,
    content_hash,
    facet,
)
from maniac_core.storage.queries import Queries
from maniac_core.storage.sqlite import connection as sqlite_connection
from maniac_core.storage.sqlite.functions import register

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=32) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
).filter(lambda value: float("inf") not in _leaves(value) and float("-inf") not in _leaves(value))


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_statements_are_parsed_with_parts_and_repeats() -> None:
    """A part stands in for its name, comments go, and a repeated line comes once per item."""
    queries = Queries(
        "-- Header.\n\n-- name: part\n-- A part.\nx = :x\n\n-- name: whole\n-- Uses it.\n"
        "SELECT 1\n WHERE {part}\n-- Why.\n   AND y <> :ys_{n} -- each ys\n LIMIT 1\n"
    )
    assert queries.names() == ["part", "whole"]
    text, params = queries.bind("whole", {"x": 1, "ys": [7, 8]})
    assert text == "SELECT 1\n WHERE x = :x\n   AND y <> :ys_0\n   AND y <> :ys_1\n LIMIT 1"
    assert params == {"x": 1, "ys_0": 7, "ys_1": 8}
    assert queries.bind("whole", {"x": 1, "ys": []})[0] == "SELECT 1\n WHERE x = :x\n LIMIT 1"
    assert queries.bind("part", {"x": 1}) == ("x = :x", {"x": 1})


@pytest.mark.parametrize(
    "text",
    [
        "-- name: a\nSELECT 1\n",
        "-- name: a\n-- Says nothing.\n",
        "-- name: a\n-- One.\nSELECT 1\n-- name: a\n-- Two.\nSELECT 2\n",
    ],
)
def test_a_statement_without_comment_or_text_or_own_name_is_refused(text: str) -> None:
    """Each name is said once, explained in one line, and means something."""
    with pytest.raises(ValueError, match=r"queries\.sql: a"):
        Queries(text)


def test_every_shipped_statement_is_valid(path: Path) -> None:
    """Every statement, but for the parts, can be prepared against the shipped schema."""
    queries = Queries.load("sqlite")
    connection = sqlite3.connect(path)
    register(connection)
    for name in queries.names():
        sql, _ = queries.bind(name, {"facets": [b"a"]})
        try:
            connection.execute(f"EXPLAIN {sql}")
        except sqlite3.ProgrammingError as err:
            # Prepared, but its parameters are missing here.
            assert "binding" in str(err), name  # noqa: PT017
    connection.close()


@given(_JSON)
def test_canonical_json_is_equal_json(value: object) -> None:
    """The canonical form means the same, and is its own canonical form."""
    document = canonical_json(value)
    assert msgspec.json.decode(document) == value
    assert canonicalize(document) == document


@given(st.dictionaries(st.text(), st.integers(-(1 << 52), 1 << 52), min_size=2))
def test_order_spacing_and_number_spelling_do_not_matter(value: dict[str, int]) -> None:
    """Turned around, with spaces, and with floats for integers, the canonical form is the same."""
    floats = {key: float(value[key]) for key in reversed(value)}
    assert canonicalize(msgspec.json.format(msgspec.json.encode(floats))) == canonical_json(value)


def test_facets_differ_by_project_key_and_value() -> None:
    """No two of (project, key, value) share a facet, whatever characters they hold."""
    triples = [
        (1, "a", b"1"),
        (11, "a", b"1"),
        (1, "a", b'"1"'),
        (1, "b", b"1"),
        (1, 'a":1', b"1"),
        (1, "a\n1", b"1"),
        (1, "", b"1"),
    ]
    assert len({facet(*triple) for triple in triples}) == len(triples)


def test_content_has_one_hash() -> None:
    """The SHA-256 of the canonical request, a line feed and the canonical answer: it stays so across versions."""
    request, answer = b'{ "b": 1.0, "a": [] }', b"[ 2e0 ]"
    both = hashlib.sha256(b'{"a":[],"b":1}\n[2]').digest()
    assert content_hash(request, answer) == both
    assert content_hash(request, None) == hashlib.sha256(b'{"a":[],"b":1}').digest()
    assert content_hash(request, answer) == both


@pytest.mark.parametrize(
    ("value", "kind", "stored"),
    [
        (None, "null", None),
        (b"", "blob", b""),
        (b"\0x", "blob", b"\0x"),
        (True, "integer", 1),
        (False, "integer", 0),
        ("1", "text", "1"),
        (1, "integer", 1),
        (1.5, "real", 1.5),
    ],
)
def test_sqlite_stores_values_as_what_they_are(
    tmp_path: Path, value: object, kind: str, stored: object
) -> None:
    """None is NULL, bytes are a blob and a bool is an integer, in statements for one row and for many."""
    (tmp_path / "t.db").touch()
    connection = sqlite_connection.connect(tmp_path / "t.db", read_only=False, synchronous="normal")
    connection.execute("CREATE TABLE t (v)")
    connection.execute("INSERT INTO t VALUES (?)", (value,))
    connection.execute("INSERT INTO t VALUES (:v)", {"v": value})
    connection.executemany("INSERT INTO t VALUES (?)", [(value,), (value,)])
    rows = connection.execute("SELECT typeof(v), v FROM t").fetchall()
    connection.close()
    assert rows == [(kind, stored)] * 4
