"""What registering and exporting read of the completions that are there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from maniac_core.domain.callers import Caller
from maniac_core.domain.completions import CompletionRecord
from maniac_core.storage.stores.completions import CompletionStore

RecordFactory = Callable[..., CompletionRecord]


async def test_known_ids_are_those_of_the_project(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """Listed or not, of one project only, for any number of ids."""
    other = msgspec.structs.replace(caller, project=8)
    records = [
        make_record(id="listed"),
        make_record(id="unlisted", store=False),
        make_record(id="foreign", caller=other),
    ]
    await asyncio.gather(*[completions.capture(record) for record in records])

    asked = ["listed", "unlisted", "foreign", "nothing", "' OR 1=1"]
    assert await completions.existing(7, asked) == {"listed", "unlisted"}
    assert await completions.existing(7, ["nothing"]) == set()
    assert await completions.existing(7, []) == set()
    assert await completions.existing(7, ["listed"] * 300) == {"listed"}


async def test_inputs_are_read_by_id(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """The model that was asked for and the request; none where content was not stored."""
    other = msgspec.structs.replace(caller, project=8)
    records = [
        make_record(id="a", input=b'{"messages":[]}', requested_model="m"),
        make_record(id="b", store=False),
        make_record(id="c", caller=other),
    ]
    await asyncio.gather(*[completions.capture(record) for record in records])

    found = await completions.inputs(7, ["a", "b", "c"])
    assert {key: (given.requested_model, given.body) for key, given in found.items()} == {
        "a": ("m", b'{"messages":[]}'),
        "b": ("openai:gpt-4o", None),
    }
