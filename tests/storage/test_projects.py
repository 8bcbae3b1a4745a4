"""A project is deleted with its keys and everything captured, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from maniac_core.domain.budgets import Limit
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace
from maniac_core.domain.completions import Attempt, CompletionFilter, CompletionRecord
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.projects import Project, ProjectStore
from plain_sql import PlainSQL

_TABLES = (
    *(
        "api_keys",
        "completions",
        "completion_bodies",
        "attempts",
        "completion_facets",
        "completion_counts",
    ),
    *("facet_counts", "traces", "trace_containers", "trace_counts", "budgets"),
)


@pytest.fixture
async def both(
    database: Database,
    make_record: Callable[..., CompletionRecord],
    make_attempt: Callable[..., Attempt],
    trace: Trace,
) -> tuple[Project, Project]:
    """Return two projects of one organization that hold the same."""
    keys, completions = KeyStore(database), CompletionStore(database)
    for name in ("gone", "kept"):
        digest = hashlib.sha256(name.encode()).digest()
        await keys.create(
            name=name,
            secret_hash=digest,
            prefix=name,
            project=name,
            organization="acme",
            budget=Limit(nano_usd=1, period="total"),
        )
        resolved = await keys.resolve(digest)
        assert resolved is not None
        caller: Caller = msgspec.structs.replace(resolved.caller, is_budgeted=False)
        await completions.capture(
            make_record(caller=caller, trace=trace, attempts=(make_attempt(),))
        )
    gone, kept = await ProjectStore(database).list()
    return gone, kept


async def test_everything_of_it_goes_and_the_other_stays(
    database: Database,
    completions: CompletionStore,
    both: tuple[Project, Project],
    plain_sql: PlainSQL,
) -> None:
    """Half of the rows of every table are left; the sums of usage are, for the organization's books."""
    gone, kept = both
    assert (gone.name, gone.organization, gone.keys, gone.completions) == ("gone", "acme", 1, 1)
    before = {table: len(plain_sql.read(f"SELECT * FROM {table}")) for table in _TABLES}
    usage = plain_sql.read("SELECT * FROM usage_daily")
    store = ProjectStore(database)
    assert await store.delete(gone)
    assert not await store.delete(gone)
    assert [project.name for project in await store.list()] == ["kept"]
    for table, count in before.items():
        assert count, table
        assert len(plain_sql.read(f"SELECT * FROM {table}")) == count // 2, table
    assert plain_sql.read("SELECT * FROM usage_daily") == usage
    everything = CompletionFilter(metadata=(("user", b'"u1"'),))
    assert await completions.count(gone.row, everything) == 0
    assert await completions.count(kept.row, everything) == 1


async def test_nothing_goes_where_not_all_can(
    database: Database, both: tuple[Project, Project], plain_sql: PlainSQL
) -> None:
    """A deletion that fails at its last step has deleted nothing."""
    gone, _ = both
    before = {table: plain_sql.read(f"SELECT * FROM {table}") for table in _TABLES}
    plain_sql.execute("CREATE TABLE holders (project BIGINT REFERENCES projects (id))")
    try:
        plain_sql.execute(f"INSERT INTO holders VALUES ({gone.row})")
        with pytest.raises(StorageError):
            await ProjectStore(database).delete(gone)
    finally:
        plain_sql.execute("DROP TABLE holders")
    after: dict[str, Any] = {table: plain_sql.read(f"SELECT * FROM {table}") for table in _TABLES}
    assert after == before
