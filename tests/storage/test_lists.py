"""Lists and counts agree with a naive model of what was captured."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.canonical_json import MAX_FACETS
from maniac_core.domain.completions import CompletionFilter, CompletionRecord
from maniac_core.domain.paging import Page
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]

_METADATA: list[dict[str, Any] | None] = [
    None,
    {},
    {"env": "prod"},
    {"env": "prod", "team": "a"},
    {"env": "prod", "team": "b", "n": 1},
    {"env": "dev", "n": 1.0, "nested": {"x": [1, 2], "y": None}},
    {"env": None, "ü": "ß", "long": "x" * 2000},
]
_FILTERS: list[dict[str, Any]] = [
    {},
    {"env": "prod"},
    {"env": "dev"},
    {"env": None},
    {"env": "prod", "team": "a"},
    {"team": "b", "n": 1},
    {"env": "prod", "team": "b", "n": 1},
    {"nested": {"y": None, "x": [1, 2.0]}},
    {"ü": "ß", "long": "x" * 2000},
    {"env": "nowhere"},
    {"env": "prod", "team": "nowhere"},
    {"n": "1"},
]


def _selection(
    model: str | None, container: int | None, metadata: dict[str, Any]
) -> CompletionFilter:
    pairs = tuple((key, msgspec.json.encode(value)) for key, value in metadata.items())
    return CompletionFilter(model=model, container=container, metadata=pairs)


def _matches(record: CompletionRecord, selection: CompletionFilter, wanted: dict[str, Any]) -> bool:
    has = msgspec.json.decode(record.metadata) if record.metadata else {}
    return (
        record.is_listed
        and selection.model in {None, record.model}
        and selection.container in {None, record.container}
        and all(key in has and has[key] == value for key, value in wanted.items())
    )


@pytest.fixture
async def captured(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> list[CompletionRecord]:
    """Return what was captured, in order: many in one second, some not listed, some of another project."""
    chance = random.Random(4)
    other = msgspec.structs.replace(caller, project=caller.project + 1)
    records = []
    for _ in range(150):
        metadata = chance.choice(_METADATA)
        container = chance.choice([None, 1, 2])
        records.append(
            make_record(
                caller=chance.choice([caller, caller, caller, other]),
                created=1_000 + chance.randrange(6),
                model=chance.choice([None, "a/x", "a/y", "b/z"]),
                container=container,
                container_label=f"c{container}" if container else None,
                status=chance.choice(["completed", "completed", "failed", "rejected"]),
                store=chance.random() > 0.1,
                metadata=None if metadata is None else msgspec.json.encode(metadata),
            )
        )
    await asyncio.gather(*[completions.capture(record) for record in records])
    return records


def _model_list(
    captured: list[CompletionRecord],
    selection: CompletionFilter,
    wanted: dict[str, Any],
    *,
    by_commit: bool = False,
) -> list[str]:
    """Return the matching ids of the first project: by time of creation, the oldest first, or in the order of commits."""
    project = min(record.caller.project for record in captured)
    found = [
        (0 if by_commit else record.created, position, record.id)
        for position, record in enumerate(captured)
        if record.caller.project == project and _matches(record, selection, wanted)
    ]
    return [record_id for _, _, record_id in sorted(found)]


@pytest.mark.parametrize("ascending", [False, True])
async def test_pages_and_counts_agree_with_the_model(
    completions: CompletionStore,
    captured: list[CompletionRecord],
    caller: Caller,
    ascending: bool,
) -> None:
    """Every filter, in both orders: the whole list, the page after each item, and the count."""
    cases = itertools.product([None, "a/x", "b/z", "no/model"], [None, 1, 3], _FILTERS)
    for model, container, wanted in cases:
        selection = _selection(model, container, wanted)
        expected = _model_list(captured, selection, wanted, by_commit=ascending)
        if not ascending:
            expected.reverse()
        everything = Page(limit=100, ascending=ascending)
        first = await completions.list(caller.project, selection, everything)
        assert [item.id for item in first] == expected[:100], (model, container, wanted)
        assert await completions.count(caller.project, selection) == len(expected)
        middle = len(expected) // 2
        if expected:
            page = Page(limit=3, after=expected[middle], skip=1, ascending=ascending)
            later = await completions.list(caller.project, selection, page)
            assert [item.id for item in later] == expected[middle + 2 : middle + 5]


async def test_walking_by_after_visits_everything_once(
    completions: CompletionStore, captured: list[CompletionRecord], caller: Caller
) -> None:
    """Pages by `after` end, and together are the list, though most records share their second."""
    selection = CompletionFilter()
    seen: list[str] = []
    page = Page(limit=7)
    while items := await completions.list(caller.project, selection, page):
        seen += [item.id for item in items]
        page = Page(limit=7, after=seen[-1])
    assert seen == _model_list(captured, selection, {})[::-1]


async def test_skipping_agrees_with_the_list(
    completions: CompletionStore, captured: list[CompletionRecord], caller: Caller
) -> None:
    """`skip` leaves out that many, and beyond the end there is nothing."""
    expected = _model_list(captured, CompletionFilter(), {})[::-1]
    for skip in (0, 1, len(expected) - 2, len(expected), len(expected) + 5):
        page = await completions.list(caller.project, CompletionFilter(), Page(limit=5, skip=skip))
        assert [item.id for item in page] == expected[skip : skip + 5]


async def test_an_unknown_position_gives_an_empty_page(
    completions: CompletionStore, captured: list[CompletionRecord], caller: Caller
) -> None:
    """`after` an id that is unknown, unlisted or of another project ends the iteration."""
    foreign = next(record for record in captured if record.caller.project != caller.project)
    unlisted = next(
        record
        for record in captured
        if record.caller.project == caller.project and not record.is_listed
    )
    for after in ("chatcmpl-unknown", foreign.id, unlisted.id):
        page = Page(after=after)
        assert await completions.list(caller.project, CompletionFilter(), page) == []


async def test_metadata_is_compared_as_json(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """Spelling does not matter, type does: 1.0 is 1, "1" is not, and an escaped letter is the letter."""
    await completions.capture(make_record(metadata=b'{"n": 1.0, "s": "\\u00e9", "b": true}'))

    async def count(key: str, value: bytes) -> int:
        return await completions.count(caller.project, CompletionFilter(metadata=((key, value),)))

    for key, value in (("n", b"1"), ("n", b"1e0"), ("s", '"é"'.encode()), ("b", b"true")):
        assert await count(key, value) == 1, (key, value)
    for key, value in (("n", b'"1"'), ("n", b"2"), ("b", b"1"), ("s", b'"e"'), ("N", b"1")):
        assert await count(key, value) == 0, (key, value)


async def test_odd_metadata_is_kept_and_harms_nothing(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """Metadata no program could hold, or with thousands of keys, is stored as it came."""
    huge = msgspec.json.encode({f"k{n:05}": n for n in range(3_000)})
    odd = [b'{"a": 1e999}', b'{"b": "\\ud800"}', b'{"\\ud800": 1}', b"{}", huge]
    records = [make_record(metadata=metadata) for metadata in odd]
    await asyncio.gather(*[completions.capture(record) for record in records])
    for record in records:
        stored = await completions.get(caller.project, record.id)
        assert stored is not None
        assert stored.metadata == record.metadata
    for key, value, count in (
        ("a", b"1e999", 1),
        ("a", b"null", 0),
        ("b", b'"\\ud800"', 0),
        (f"k{MAX_FACETS - 1:05}", b"%d" % (MAX_FACETS - 1), 1),
        (f"k{MAX_FACETS:05}", b"%d" % MAX_FACETS, 0),
    ):
        selection = CompletionFilter(metadata=((key, value),))
        assert await completions.count(caller.project, selection) == count, key
