"""Every key and operator of a dataset's filters, on the ledger itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from filter_cases import CASES, METADATA
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import COLUMN_KEYS, Dataset, DatasetFilter
from maniac_core.domain.ids import uuid_id
from maniac_core.services.datasets.filters import conditions_of
from maniac_core.storage.base import Database
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.keys import KeyStore

RecordFactory = Callable[..., CompletionRecord]
Select = Callable[..., Any]

CONTAINER = Container(
    key=0,
    id="5d1c4f5e-0000-4000-8000-000000000001",
    project_id="",
    organization_id="",
    label="support",
    initial_model="m",
    created=1,
)


def text(role: str, content: object) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content}], "n": 1}).encode()


def answer(*contents: object) -> bytes:
    choices = [{"message": {"role": "assistant", "content": content}} for content in contents]
    return json.dumps(choices).encode()


@pytest.fixture
async def tenant(database: Database, keys: KeyStore) -> tuple[Caller, Container]:
    """A project with a container."""
    await keys.create(
        name="k", secret_hash=b"h", prefix="mk-", project="default", organization="default"
    )
    row = await keys.resolve(b"h")
    assert row is not None
    store = ContainerStore(database)
    await store.add(row.caller.project, CONTAINER)
    made = await store.find_by_label(row.caller.project, "support")
    assert made is not None
    return row.caller, made


@pytest.fixture
async def select(
    database: Database,
    completions: CompletionStore,
    make_record: RecordFactory,
    tenant: tuple[Caller, Container],
) -> Select:
    """Return a function from filters to the ids of what they select, of the records a (oldest), b and c."""
    caller, container = tenant
    common: dict[str, Any] = {"caller": caller, "container": container.key}
    records: dict[str, dict[str, Any]] = {
        "a": {
            "created": 1_700_000_000,
            "model": "openai/gpt-4o",
            "provider": "openai",
            "tags": ("red", "gr%en"),
            "finish_reason": "stop",
            "spend_nano_usd": 1_500_000,
            "usage": Usage(input_tokens=10, cache_read_tokens=5, output_tokens=3),
            "trace": Trace(id="t/1", span_id="s1"),
            "input": text("user", "Where is Ä?"),
            "output": answer("It is here.", "Or there."),
        },
        "b": {
            "created": 1_700_000_100,
            "model": "openrouter/x/y:free",
            "provider": "openrouter",
            "tags": ("red",),
            "finish_reason": "length",
            "spend_nano_usd": None,
            "usage": Usage(input_tokens=100, output_tokens=50, reasoning_tokens=7),
            "trace": Trace(id="t/2"),
            "input": text("user", [{"type": "text", "text": "part"}, {"type": "image_url"}]),
            "output": answer(None),
        },
        "c": {
            "created": 1_700_000_200,
            "model": None,
            "provider": None,
            "tags": (),
            "finish_reason": None,
            "spend_nano_usd": 0,
            "usage": Usage(),
            "usage_source": "none",
            "trace": None,
            "input": text("user", "50% _off_"),
            "output": None,
        },
    }
    for name, fields in records.items():
        metadata = json.dumps(METADATA[name]).encode()
        await completions.capture(make_record(id=name, metadata=metadata, **common, **fields))
    store = DatasetStore(database)

    async def run(*filters: tuple[Any, ...]) -> str:
        given = [
            DatasetFilter(key=key, operator=operator, value=msgspec.Raw(json.dumps(*value or [0])))
            for key, operator, *value in filters
        ]
        conditions, violations = conditions_of(given, container)
        assert violations == []
        wanted = Dataset(
            id=uuid_id(), name="d", container="", requested_size=10, filters=tuple(given)
        )
        await store.create(caller.project, container.key, wanted, conditions)
        made = await store.get(caller.project, wanted.id)
        assert made is not None
        found = [item.completion.id async for batch in store.items(made) for item in batch]
        assert len(found) == made.size
        return "".join(reversed(found))

    return run


@pytest.mark.parametrize("key", CASES)
async def test_a_filter_selects(select: Select, tenant: tuple[Caller, Container], key: str) -> None:
    """Values are compared by type and value; another type, and nothing at all, is no match."""
    found = []
    for (name, operator, value), _ in CASES[key]:
        given = tenant[1].id if value == "CONTAINER_ID" else value
        found.append(((name, operator, value), await select((name, operator, given))))
    assert found == CASES[key]


async def test_all_filters_must_fit(select: Select) -> None:
    """Filters narrow each other, several of a key as well, on columns, metadata and texts together."""
    filters = [
        ("model", "exists"),
        ("metadata.n", "greater_than", 0),
        ("metadata.user", "contains", "u"),
        ("input.text", "contains", "a"),
    ]

    assert await select() == "abc"
    assert await select(*filters[:3]) == "ab"
    assert await select(*filters) == "b"
    assert await select(*filters, ("metadata.n", "less_than", 5)) == ""


@pytest.mark.long
@pytest.mark.parametrize("names", [sorted(COLUMN_KEYS), ["metadata.x"]])
async def test_every_operator_runs_on_every_key(select: Select, names: list[str]) -> None:
    """Whatever is asked of a key, the database can answer."""
    for key in names:
        await ask_everything(select, key)


async def ask_everything(select: Select, key: str) -> None:
    moment = "2023-11-14T22:13:20Z"
    for value in (moment, 5, True, [1], {"a": 1}):
        for operator in ("equals", "not_equals", "contains", "not_contains"):
            await select((key, operator, value))
        for operator in ("in", "not_in"):
            await select((key, operator, [value, moment, 7]))
    for value in (moment, 5):
        for operator in (
            "greater_than",
            "less_than",
            "greater_than_or_equal",
            "less_than_or_equal",
        ):
            await select((key, operator, value))
        await select((key, "between", [value, value]))
    present = await select((key, "exists"))
    absent = await select((key, "not_exists"))
    assert sorted(present + absent) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("key", "operator", "value", "field"),
    [
        ("nothing", "equals", 1, "key"),
        ("metadata", "equals", 1, "key"),
        ("metadata.", "equals", 1, "key"),
        ("metadata.a..b", "equals", 1, "key"),
        ("usage", "equals", 1, "key"),
        ("usage.cost", "equals", 1, "key"),
        ("ID", "equals", 1, "key"),
        ("id", "like", 1, "operator"),
        ("id", "", 1, "operator"),
        ("id", "equals", None, "value"),
        ("id", "in", "a", "value"),
        ("id", "not_in", {"a": 1}, "value"),
        ("id", "in", [None], "value"),
        ("id", "between", ["a"], "value"),
        ("id", "between", ["a", "b", "c"], "value"),
        ("id", "between", ["a", 1], "value"),
        ("id", "between", [True, True], "value"),
        ("id", "greater_than", True, "value"),
        ("id", "less_than", ["a"], "value"),
        ("created", "equals", "yesterday", "value"),
        ("created", "in", ["2023-13-01"], "value"),
        ("created", "between", ["2023", "2024"], "value"),
        ("spend", "equals", 10**400, "value"),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, operator: str, value: Any, field: str) -> None:
    """An unknown key or operator, and a value that the operator cannot take, are named by their place."""
    given = DatasetFilter(key=key, operator=operator, value=msgspec.Raw(json.dumps(value).encode()))
    fine = DatasetFilter(key="id", operator="exists")
    _, violations = conditions_of([fine, given], CONTAINER)

    assert [violation.loc for violation in violations] == [("body", "filters", 1, field)]


def test_filters_are_bounded() -> None:
    """Neither their number nor that of their values is without limit."""
    many = [DatasetFilter(key="id", operator="exists")] * 101
    values = msgspec.Raw(json.dumps(list(range(5_001))).encode())
    large = [DatasetFilter(key="id", operator="in", value=values)] * 2

    for filters in (many, large):
        _, violations = conditions_of(filters, CONTAINER)
        assert [violation.loc for violation in violations] == [("body", "filters")]


async def test_a_thousand_values_run(select: Select) -> None:
    """The largest filter that is allowed is within what the database takes."""
    assert await select(("id", "in", ["b", *map(str, range(999))])) == "b"
