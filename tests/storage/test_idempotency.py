"""Idempotency keys: what they stand for is written with the record, whatever becomes of the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, cast

import msgspec
import pytest
from maniac_common import supervised
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import ChatRequest, Choice, Chunk, Completion, Usage
from maniac_core.domain.completions import CompletionRecord, KeyClaim
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import elapsed_s, now_s
from maniac_core.services.capture.capture import Call, Capture, Claim
from maniac_core.services.chat.completions import CompletionService
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.chat.remembered import RememberedAnswers
from maniac_core.services.limits.concurrency import Concurrency
from maniac_core.services.limits.quotas import Quotas
from maniac_core.storage.base import ClaimLostError, Database
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.files import FileStore
from maniac_core.storage.stores.idempotency import IdempotencyStore, KeyState
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
MakeCall = Callable[[], Call]
Ask = Callable[[IdempotentCompletions, Call, ChatRequest], Coroutine[Any, Any, str]]
_SOON_S = 25
"""Less than a claim lasts by itself."""
REQUEST = ChatRequest(messages=[{"role": "user", "content": "Hi"}], model="m")
CHOICE = Choice(index=0, message={"role": "assistant", "content": "Ho"}, finish_reason="stop")


class _Keys(IdempotencyStore):
    """Says when a claim is on its way to the database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.claiming = asyncio.Event()

    async def claim(self, *args: Any, **more: Any) -> bool:
        self.claiming.set()
        return await super().claim(*args, **more)


class _Completions:
    """Stands for the providers: answers once it may, and records that as the real one does."""

    def __init__(self, store: CompletionStore) -> None:
        self.made = 0
        self.fails = False
        self.usage = Usage()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked, self.recording = asyncio.Event(), asyncio.Event()
        self._store = store

    async def create(
        self, call: Call, request: ChatRequest, claim: Claim | None = None
    ) -> Completion:
        capture = Capture(self._store, call, request, streamed=False, claim=claim)
        await self._answer()
        if self.fails:
            await capture.finish("failed")
            raise GatewayError(Reason.ERROR_REASON_UPSTREAM_ERROR, "no")
        await capture.finish("completed", choices=[CHOICE], usage=self.usage)
        return Completion(
            id=capture.id,
            created=capture.created,
            model="",
            provider="",
            container=None,
            choices=[CHOICE],
            usage=self.usage,
        )

    async def stream(
        self, call: Call, request: ChatRequest, claim: Claim | None = None
    ) -> AsyncGenerator[list[Chunk], None]:
        capture = Capture(self._store, call, request, streamed=True, claim=claim)
        try:
            yield [Chunk(id=capture.id, created=0, model="", provider="", container=None)]
            await self._answer()
            yield [Chunk(id=capture.id, created=0, model="", provider="", container=None)]
            await capture.finish("completed", choices=[CHOICE], usage=self.usage)
        except (asyncio.CancelledError, GeneratorExit):
            capture.submit("cancelled")
            raise

    async def _answer(self) -> None:
        self.made += 1
        self.asked.set()
        await self.may_answer.wait()
        self.recording.set()


class _Core:
    """What one core has of a database."""

    def __init__(self, database: Database) -> None:
        store = CompletionStore(database)
        self.keys = _Keys(database)
        self.completions = _Completions(store)
        self.service = IdempotentCompletions(
            cast(CompletionService, self.completions),
            self.keys,
            store,
            is_optional=False,
            concurrency=Concurrency(CoreConfig()),
            quotas=Quotas(CoreConfig(), store, FileStore(database)),
        )


@pytest.fixture
def keys(database: Database) -> IdempotencyStore:
    return IdempotencyStore(database)


@pytest.fixture
async def core(database: Database) -> AsyncIterator[_Core]:
    core = _Core(database)
    yield core
    await core.service.close()


@pytest.fixture
def make_call(caller: Caller) -> MakeCall:
    return lambda: Call(caller=caller, request_id="r", idempotency_key="k")


async def _claim(keys: IdempotencyStore, key: str, owner: str, *, lasts_s: int = 30) -> bool:
    return await keys.claim(7, key, fingerprint=b"f", owner=owner, lease_s=lasts_s)


async def _read(service: IdempotentCompletions, call: Call, request: ChatRequest) -> str:
    """Return the id of what is streamed."""
    async with (
        asyncio.timeout(_SOON_S),
        contextlib.aclosing(service.stream(call, request)) as batches,
    ):
        [one] = {chunk.id async for batch in batches for chunk in batch}
    return one


async def _create(service: IdempotentCompletions, call: Call, request: ChatRequest) -> str:
    async with asyncio.timeout(_SOON_S):
        return (await service.create(call, request)).id


async def test_a_key_stands_for_its_record_once_that_is_committed(
    keys: IdempotencyStore, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """Each key of a batch for its own; a record that is refused leaves its key claimed, and nothing frees the others."""
    until = now_s() + 1000
    records = [
        make_record(claim=KeyClaim(key=f"k{n}", owner=f"o{n}", until=until)) for n in range(3)
    ]
    records[1] = make_record(claim=records[1].claim, usage=Usage(input_tokens=1 << 70))
    for n in range(3):
        assert await _claim(keys, f"k{n}", f"o{n}")
    kept = await asyncio.gather(
        *(completions.capture(record) for record in (*records, make_record())),
        return_exceptions=True,
    )
    assert [error is None for error in kept] == [True, False, True, True]
    for n in range(3):
        await keys.release(7, f"k{n}", owner=f"o{n}")

    found = [await keys.find(7, f"k{n}", lease_s=30) for n in range(3)]
    assert found == [
        KeyState(fingerprint=b"f", completion=records[0].id),
        None,
        KeyState(fingerprint=b"f", completion=records[2].id),
    ]


async def test_a_key_that_was_taken_over_is_not_answered(
    keys: IdempotencyStore, completions: CompletionStore, make_record: RecordFactory
) -> None:
    """The record of a core that was away for long is kept, but the key is another's; so is that of another project."""
    assert await _claim(keys, "k", "slow", lasts_s=-1)
    assert await keys.find(7, "k", lease_s=30) is None
    assert await _claim(keys, "k", "next")
    until = now_s() + 1000
    other = Caller(key=1, project=8, organization=9, project_id="p", organization_id="o")
    late = [
        make_record(claim=KeyClaim(key="k", owner="slow", until=until)),
        make_record(caller=other, claim=KeyClaim(key="k", owner="next", until=until)),
    ]
    kept = await asyncio.gather(
        *(completions.capture(record) for record in (*late, make_record())), return_exceptions=True
    )
    assert [type(error) for error in kept] == [ClaimLostError, ClaimLostError, type(None)]
    assert await keys.find(7, "k", lease_s=30) == KeyState(fingerprint=b"f", completion=None)
    for record in late:
        assert await completions.get(record.caller.project, record.id), "it was paid for"


async def test_keys_are_forgotten_when_their_time_is_over(
    keys: IdempotencyStore,
    completions: CompletionStore,
    make_record: RecordFactory,
    read_table: Callable[[str], list[dict[str, Any]]],
) -> None:
    """Any later claim removes them, but for claims that lapsed today: their requests may have been held up."""
    await _claim(keys, "answered", "o")
    over = KeyClaim(key="answered", owner="o", until=now_s() - 1)
    await completions.capture(make_record(claim=over))
    await _claim(keys, "held up", "o", lasts_s=-1)
    await _claim(keys, "dead", "o", lasts_s=-86_402)
    await _claim(keys, "new", "o")
    left = read_table("SELECT key FROM idempotency_keys ORDER BY key")
    assert left == [{"key": "held up"}, {"key": "new"}]


async def test_a_claim_of_before_the_clock_was_set_back_can_be_taken(
    keys: IdempotencyStore,
) -> None:
    """It would otherwise seem to be held for hours; one that lapsed can be renewed until somebody takes it."""
    assert await _claim(keys, "k", "before", lasts_s=7200)
    assert await keys.find(7, "k", lease_s=30) is None
    assert await keys.renew(7, "k", owner="before", lease_s=-1)
    assert await keys.renew(7, "k", owner="before", lease_s=30)
    assert not await _claim(keys, "k", "after")
    assert await keys.renew(7, "k", owner="before", lease_s=7200)
    assert await _claim(keys, "k", "after")
    assert not await keys.renew(7, "k", owner="before", lease_s=30)


async def test_who_leaves_while_claiming_leaves_at_once_and_frees_the_key(
    core: _Core, make_call: MakeCall, plain_sql: PlainSQL
) -> None:
    """The claim is committed all the same; the repetition need not wait until it runs out."""
    with plain_sql.writing():
        leaving = asyncio.create_task(core.service.create(make_call(), REQUEST))
        await core.keys.claiming.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    async with asyncio.timeout(_SOON_S):
        await core.service.close()
    assert await core.keys.find(7, "k", lease_s=30) is None
    assert core.completions.made == 0


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("ask", [_create, _read])
async def test_who_leaves_while_the_answer_is_committed_gets_it_later(
    core: _Core, make_call: MakeCall, plain_sql: PlainSQL, ask: Ask, *, store: bool
) -> None:
    """It is recorded and charged, so it is not made again; the core knows it although nothing of it is stored."""
    request = msgspec.structs.replace(REQUEST, store=store)
    core.completions.may_answer.clear()
    leaving = asyncio.create_task(ask(core.service, make_call(), request))
    await core.completions.asked.wait()
    with plain_sql.writing():
        core.completions.may_answer.set()
        await core.completions.recording.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    assert await ask(core.service, make_call(), request)
    assert core.completions.made == 1


@pytest.mark.parametrize("ask", [_create, _read])
async def test_what_is_not_stored_is_a_conflict_at_other_cores(
    core: _Core, database: Database, make_call: MakeCall, ask: Ask
) -> None:
    """The core that answered repeats it, stream or not; another one can't, and does not call the provider again."""
    request = msgspec.structs.replace(REQUEST, store=False)
    first = await ask(core.service, make_call(), request)
    assert await ask(core.service, make_call(), request) == first
    other = _Core(database)
    with pytest.raises(GatewayError) as refused:
        await ask(other.service, make_call(), request)
    assert refused.value.reason == Reason.ERROR_REASON_CONFLICT
    assert (core.completions.made, other.completions.made) == (1, 0)


async def test_duplicates_at_all_cores_wait_for_the_one_answer(
    core: _Core, database: Database, make_call: MakeCall
) -> None:
    """Whoever comes while the first one runs is answered with its result."""
    other = _Core(database)
    core.completions.may_answer.clear()
    asked = [asyncio.create_task(_create(core.service, make_call(), REQUEST))]
    await core.completions.asked.wait()
    for one in (core, other):
        asked += [asyncio.create_task(_create(one.service, make_call(), REQUEST)) for _ in range(3)]
    await other.keys.claiming.wait()
    core.completions.may_answer.set()
    assert len(set(await asyncio.gather(*asked))) == 1
    assert (core.completions.made, other.completions.made) == (1, 0)


@pytest.mark.parametrize("ask", [_create, _read])
async def test_who_leaves_before_the_answer_frees_the_key(
    core: _Core, make_call: MakeCall, ask: Ask
) -> None:
    """A repetition is done anew."""
    core.completions.may_answer.clear()
    leaving = asyncio.create_task(ask(core.service, make_call(), REQUEST))
    await core.completions.asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    core.completions.may_answer.set()
    assert await ask(core.service, make_call(), REQUEST)
    assert core.completions.made == 2


async def test_a_failure_frees_the_key_before_it_is_told(core: _Core, make_call: MakeCall) -> None:
    """Nobody who retries at once finds the key claimed."""
    core.completions.fails = True
    with pytest.raises(GatewayError):
        await core.service.create(make_call(), REQUEST)
    assert await core.keys.find(7, "k", lease_s=30) is None


@pytest.mark.parametrize("ask", [_create, _read])
async def test_an_answer_that_cannot_be_committed_frees_the_key(
    core: _Core, make_call: MakeCall, ask: Ask
) -> None:
    """It was not delivered, so a repetition is done anew."""
    core.completions.usage = Usage(input_tokens=1 << 70)
    with pytest.raises(GatewayError):
        await ask(core.service, make_call(), REQUEST)
    core.completions.usage = Usage()
    assert await ask(core.service, make_call(), REQUEST)
    assert core.completions.made == 2


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("ask", [_create, _read])
async def test_whoever_was_held_up_does_not_answer_besides_the_repetition(
    core: _Core,
    database: Database,
    make_call: MakeCall,
    plain_sql: PlainSQL,
    ask: Ask,
    *,
    store: bool,
) -> None:
    """Two may be paid for then, one is delivered whole: that of the request which took the key over."""
    request = msgspec.structs.replace(REQUEST, store=store)
    other = _Core(database)
    core.completions.may_answer.clear()
    held_up = asyncio.create_task(ask(core.service, make_call(), request))
    await core.completions.asked.wait()
    # What the database's clock would have done in half a minute.
    plain_sql.execute("UPDATE idempotency_keys SET expires = 1")
    first = await ask(other.service, make_call(), request)
    core.completions.may_answer.set()
    if store and ask is _create:
        assert await held_up == first
    else:
        # A stream has begun with an answer of its own; what is not stored is known to the other core alone.
        with pytest.raises(GatewayError) as refused:
            await held_up
        assert refused.value.reason == Reason.ERROR_REASON_CONFLICT
    assert await ask(other.service, make_call(), request) == first
    assert (core.completions.made, other.completions.made) == (1, 1)


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_stream_that_was_held_up_goes_on_only_with_its_key(
    core: _Core,
    database: Database,
    make_call: MakeCall,
    plain_sql: PlainSQL,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_taken: bool,
) -> None:
    """By its own steady clock it knows that the claim may be over, and asks before it sends another byte."""
    core.completions.may_answer.clear()
    chunks = core.service.stream(make_call(), REQUEST)
    await anext(chunks)
    steady = elapsed_s()
    monkeypatch.setattr("maniac_core.services.chat.key_lease.elapsed_s", lambda: steady + 125)
    plain_sql.execute("UPDATE idempotency_keys SET expires = 1")
    if is_taken:
        await _read(_Core(database).service, make_call(), REQUEST)
    core.completions.may_answer.set()
    if is_taken:
        with pytest.raises(GatewayError) as refused:
            await anext(chunks)
        assert refused.value.reason == Reason.ERROR_REASON_CONFLICT
    else:
        assert len([batch async for batch in chunks]) == 1


async def test_a_core_never_takes_over_from_itself(
    core: _Core, make_call: MakeCall, plain_sql: PlainSQL
) -> None:
    """A whole core that was stopped for long, or whose clock jumps, still does a request once."""
    core.completions.may_answer.clear()
    first = asyncio.create_task(_create(core.service, make_call(), REQUEST))
    await core.completions.asked.wait()
    plain_sql.execute("UPDATE idempotency_keys SET expires = 1")
    again = asyncio.create_task(_create(core.service, make_call(), REQUEST))
    different = msgspec.structs.replace(REQUEST, model="other")
    with pytest.raises(GatewayError) as refused:
        await _create(core.service, make_call(), different)
    assert refused.value.reason == Reason.ERROR_REASON_IDEMPOTENCY_KEY_REUSED
    core.completions.may_answer.set()
    assert await first == await again
    assert core.completions.made == 1


def test_what_is_remembered_is_bounded_by_bytes() -> None:
    """The oldest answers are forgotten first; one that is larger than all room is not remembered at all."""
    answers = RememberedAnswers(max_bytes=3000)

    def make(number: int, size: int) -> Completion:
        message = {"role": "assistant", "content": "x" * size}
        choice = Choice(index=0, message=message, finish_reason="stop")
        return Completion(
            id=str(number),
            created=0,
            model="m",
            provider="p",
            container=None,
            choices=[choice],
            usage=Usage(input_tokens=number),
        )

    for number in range(4):
        answers.add(make(number, 600))
    assert [answers.get(str(number)) is not None for number in range(4)] == [
        False,
        True,
        True,
        True,
    ]
    assert answers.get("3") == make(3, 600)
    answers.add(make(4, 3000))
    assert answers.get("4") is None
    assert answers.size_bytes <= 3000


async def test_a_mistake_while_renewing_a_key_is_made_good(
    core: _Core,
    make_call: MakeCall,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lease is renewed again, and the log says what happened."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("maniac_core.services.chat.key_lease._RENEW_S", 0.001)
    renew, renewed = core.keys.renew, asyncio.Event()
    mistakes = [AttributeError("odd")]

    async def mistaken(*args: Any, **more: Any) -> bool:
        if mistakes:
            raise mistakes.pop()
        is_renewed = await renew(*args, **more)
        renewed.set()
        return is_renewed

    monkeypatch.setattr(core.keys, "renew", mistaken)
    core.completions.may_answer.clear()
    running = asyncio.create_task(_create(core.service, make_call(), REQUEST))
    async with asyncio.timeout(_SOON_S):
        await renewed.wait()
    core.completions.may_answer.set()
    assert await running
    assert "renewing a key's lease failed" in caplog.text
