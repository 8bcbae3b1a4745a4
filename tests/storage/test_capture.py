"""What is captured comes back whole, and only where and as far as it may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import (
    Attempt,
    CompletionFilter,
    CompletionRecord,
    Status,
    StoredCompletion,
)
from maniac_core.domain.paging import Page
from maniac_core.storage.base import ConstraintError, Database
from maniac_core.storage.stores.completions import CompletionStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
_SHARED = set(StoredCompletion.__struct_fields__) - {"trace", "unreadable"}


def _expected(record: CompletionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _SHARED}


def _actual(stored: StoredCompletion) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in _SHARED}


async def test_every_field_comes_back(
    completions: CompletionStore,
    make_record: RecordFactory,
    make_attempt: Callable[..., Attempt],
    trace: Trace,
) -> None:
    """A record read back, by id and in a list, equals what was captured, with its attempts and its route."""
    trace = msgspec.structs.replace(trace, metadata=msgspec.Raw(b'{"k": 1.0}'))
    failed = make_attempt(
        outcome="failed",
        http_status=503,
        error_reason="UPSTREAM_ERROR",
        error_message="busy",
        usage=None,
        spend_nano_usd=None,
        time_to_first_token_us=None,
    )
    attempts = (failed, make_attempt(number=1))
    record = make_record(
        trace=trace, attempts=attempts, error_reason="UPSTREAM_ERROR", error_message="busy"
    )
    await completions.capture(record)

    stored = await completions.get(record.caller.project, record.id)
    assert stored is not None
    assert _actual(stored) == _expected(record)
    assert stored.trace is not None
    assert stored.trace.metadata is not None
    assert bytes(stored.trace.metadata) == b'{"k": 1.0}'
    without = {"metadata": None}
    assert msgspec.structs.replace(stored.trace, **without) == msgspec.structs.replace(
        trace, **without
    )
    listed = await completions.list(record.caller.project, CompletionFilter(), Page())
    assert [_actual(item) for item in listed] == [_expected(record)]

    detail = await completions.explain(record.caller.project, record.id)
    assert detail is not None
    assert detail.attempts == attempts
    assert (detail.input, detail.route) == (record.input, record.route)
    assert (stored.error_reason, stored.error_message) == ("UPSTREAM_ERROR", "busy")
    assert (detail.request_id, detail.requested_model, detail.streamed) == (
        record.request_id,
        record.requested_model,
        True,
    )


async def test_absent_values_come_back_absent(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """What was not known is None, never 0 or an empty text: an unknown price above all."""
    record = make_record(
        caller=msgspec.structs.replace(caller, key=None),
        model=None,
        provider=None,
        model_id=None,
        container=None,
        container_label=None,
        finish_reason=None,
        usage=Usage(),
        usage_source="none",
        spend_nano_usd=None,
        time_to_first_token_us=None,
        tags=(),
        metadata=None,
        output=None,
        route=None,
    )
    await completions.capture(record)
    stored = await completions.get(caller.project, record.id)
    assert stored is not None
    assert _actual(stored) == _expected(record)
    assert stored.trace is None


@pytest.mark.parametrize("status", get_args(Status))
async def test_each_status_is_kept_and_only_the_rejected_are_not_listed(
    completions: CompletionStore, make_record: RecordFactory, status: Status
) -> None:
    """A refused request leaves a record that can be explained, but no completion."""
    record = make_record(status=status)
    await completions.capture(record)
    listed = await completions.list(record.caller.project, CompletionFilter(), Page())
    assert [item.status for item in listed] == ([] if status == "rejected" else [status])
    assert await completions.count(record.caller.project, CompletionFilter()) == len(listed)
    detail = await completions.explain(record.caller.project, record.id)
    assert detail is not None
    assert detail.completion.status == status


async def test_content_of_an_unstored_request_is_nowhere(
    completions: CompletionStore,
    make_record: RecordFactory,
    make_attempt: Callable[..., Attempt],
    plain_sql: PlainSQL,
) -> None:
    """With store false nothing the caller or the provider wrote reaches the database, even if it was handed over."""
    secret = "XYZZY-secret"
    record = make_record(
        store=False,
        tags=(secret,),
        metadata=b'{"k":"%s"}' % secret.encode(),
        input=secret.encode(),
        output=secret.encode(),
        error_message=secret,
        attempts=(make_attempt(error_message=secret),),
        trace=Trace(id="t", name=secret, source=secret, metadata=msgspec.Raw(secret.encode())),
    )
    await completions.capture(record)
    assert await completions.get(record.caller.project, record.id) is None
    assert await completions.list(record.caller.project, CompletionFilter(), Page()) == []
    assert await completions.count(record.caller.project, CompletionFilter()) == 0
    everything = plain_sql.everything()
    assert record.request_id.encode() in everything
    assert secret.encode() not in everything


async def test_numbers_of_an_unstored_request_are_kept(
    completions: CompletionStore, make_record: RecordFactory
) -> None:
    """Usage, spend and the route of a request with store false can still be looked at."""
    record = make_record(store=False)
    await completions.capture(record)
    detail = await completions.explain(record.caller.project, record.id)
    assert detail is not None
    assert detail.completion.usage == record.usage
    assert detail.completion.spend_nano_usd == record.spend_nano_usd
    assert detail.route == record.route
    assert (detail.input, detail.content_hash) == (None, None)


async def test_other_projects_see_nothing(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """A record exists for its own project only, by id, in lists, in counts and as a position."""
    record = make_record()
    await completions.capture(record)
    other = caller.project + 1
    metadata = (("user", b'"u1"'),)
    assert await completions.get(other, record.id) is None
    assert await completions.explain(other, record.id) is None
    for selection in (
        CompletionFilter(),
        CompletionFilter(model=record.model),
        CompletionFilter(container=record.container),
        CompletionFilter(metadata=metadata),
    ):
        assert await completions.list(other, selection, Page()) == []
        assert await completions.count(other, selection) == 0
        assert await completions.count(caller.project, selection) == 1


async def test_an_id_is_unique_within_its_project(
    completions: CompletionStore, make_record: RecordFactory, caller: Caller
) -> None:
    """The same id is refused in one project, leaves no trace there, and is free in another."""
    first = make_record()
    await completions.capture(first)
    with pytest.raises(ConstraintError):
        await completions.capture(make_record(id=first.id))
    assert await completions.count(caller.project, CompletionFilter()) == 1
    other = msgspec.structs.replace(caller, project=caller.project + 1)
    await completions.capture(make_record(id=first.id, caller=other))
    assert await completions.count(other.project, CompletionFilter()) == 1


async def test_equal_content_has_equal_hashes(
    completions: CompletionStore, make_record: RecordFactory
) -> None:
    """The content hash ignores how the JSON was written, and nothing else."""

    async def digest(**changes: Any) -> bytes | None:
        record = make_record(**changes)
        await completions.capture(record)
        detail = await completions.explain(record.caller.project, record.id)
        assert detail is not None
        return detail.content_hash

    plain = await digest(input=b'{"a":1,"b":[2]}', output=b"[3]")
    assert plain is not None
    assert await digest(input=b'{ "b": [2.0], "a": 1 }', output=b"[ 3 ]") == plain
    assert await digest(input=b'{"a":1,"b":[2]}', output=b"[4]") != plain
    assert await digest(input=b'{"a":1,"b":[2]}', output=None) != plain
    assert await digest(input=b'{"a":"1","b":[2]}', output=b"[3]") != plain


async def test_capture_survives_a_restart(
    database: Database,
    completions: CompletionStore,
    make_record: RecordFactory,
    open_database: Callable[[], Database],
) -> None:
    """What was acknowledged is there when the data is opened again."""
    record = make_record()
    await completions.capture(record)
    await database.close()
    again = open_database()
    await again.start()
    try:
        assert await CompletionStore(again).get(record.caller.project, record.id) is not None
    finally:
        await again.close()
