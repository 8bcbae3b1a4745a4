"""Reservations of several cores: mostly from advances, and never more than the limit in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from maniac_common import supervised
from maniac_core.domain.budgets import Hold, Limit, Owner
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.services.billing.advances import MOST_REQUESTS, REQUESTS, ROOM
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.capture.holds import Holds
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.stores.budgets import BudgetStore, Claim
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from plain_sql import PlainSQL

RecordFactory = Callable[..., CompletionRecord]
PLENTY = 2 * REQUESTS * ROOM
"""Requests of 1 nano-USD: a limit for so many has room for advances."""


@pytest.fixture
def budgets(database: Database) -> BudgetStore:
    return BudgetStore(database)


@pytest.fixture
async def spender(keys: KeyStore) -> Caller:
    """Return the caller of a real key."""
    await keys.create(name="n", secret_hash=b"h", prefix="mk-1", project="web", organization="acme")
    row = await keys.resolve(b"h")
    assert row is not None
    return row.caller


@pytest.fixture
async def cores(budgets: BudgetStore) -> AsyncIterator[list[Reservations]]:
    """Return what two cores have of one database."""
    cores = [Reservations(budgets), Reservations(budgets)]
    yield cores
    for core in cores:
        await core.close()


async def _limit(budgets: BudgetStore, spender: Caller, nano_usd: int) -> None:
    owner = Owner(organization=spender.organization)
    await budgets.set(owner, Limit(nano_usd=nano_usd, period="total"), now_s())


async def _reserved(budgets: BudgetStore) -> int:
    (budget,) = await budgets.list(now_s())
    return budget.reserved_nano_usd


async def _take(core: Reservations, spender: Caller, count: int) -> list[Hold]:
    taken = await asyncio.gather(*(core.take(spender, 1) for _ in range(count)))
    return [hold for hold in taken if hold is not None]


async def test_requests_of_several_cores_never_exceed_the_limit(
    budgets: BudgetStore, cores: list[Reservations], spender: Caller
) -> None:
    """Whatever is reserved ahead: no more requests than fit, and all that fit once nobody keeps an advance."""
    await _limit(budgets, spender, PLENTY)
    # In rounds, so that both find advances of their own and of the other.
    first, second = cores
    taken: list[Hold] = []
    for _ in range(12):
        for holds in await asyncio.gather(
            _take(first, spender, PLENTY // 16), _take(second, spender, PLENTY // 16)
        ):
            taken += holds
        assert await _reserved(budgets) <= PLENTY
    assert any(hold.is_part for hold in taken)
    assert len(taken) <= PLENTY
    first.recall()
    second.recall()
    for core in cores:
        while hold := await core.take(spender, 1):
            taken.append(hold)
    assert len(taken) == PLENTY


async def test_small_budgets_are_reserved_request_by_request(
    budgets: BudgetStore, cores: list[Reservations], spender: Caller
) -> None:
    """Where an advance would keep others from a good part of what is left there is none."""
    await _limit(budgets, spender, REQUESTS * ROOM)
    taken = await _take(cores[0], spender, 10)
    taken += await _take(cores[0], spender, 10)
    assert [hold.is_part for hold in taken] == [False] * 20
    assert await _reserved(budgets) == 20


class _Watched(BudgetStore):
    """Notes the amounts that are reserved ahead, and when no transaction runs."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.ahead: list[tuple[int, bool]] = []
        self.is_idle = asyncio.Event()

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        self.is_idle.clear()
        holds = await super().reserve(claims, **more)
        self.ahead += [
            (claim.amount_nano_usd, hold is not None)
            for claim, hold in zip(claims, holds, strict=True)
            if claim.is_ahead
        ]
        asyncio.get_running_loop().call_soon(self.is_idle.set)
        return holds


async def _take_at_once(core: Reservations, spender: Caller) -> tuple[Hold | None, bool]:
    """Return a hold, and whether it was there without waiting."""
    taking = asyncio.create_task(core.take(spender, 1))
    await asyncio.sleep(0)
    is_at_once = taking.done()
    return await taking, is_at_once


@pytest.mark.parametrize(
    ("limit", "first", "largest"),
    [
        # (budget, takes, the largest advance)
        (10**9, 4 * MOST_REQUESTS, MOST_REQUESTS),
        # Room for 128 at a time at first, later for less.
        (200 * ROOM, 100 * ROOM, 128),
    ],
)
async def test_a_caller_who_goes_on_waits_once(
    database: Database, spender: Caller, limit: int, first: int, largest: int
) -> None:
    """The next advance is there before the present one is used up; it doubles as far as budgets have room."""
    budgets = _Watched(database)
    await _limit(budgets, spender, limit)
    core = Reservations(budgets)
    waited = []
    for number in range(first):
        hold, is_at_once = await _take_at_once(core, spender)
        assert hold is not None
        if not is_at_once:
            waited.append(number)
        # As if the transaction took no time, compared with the requests.
        await asyncio.sleep(0)
        await budgets.is_idle.wait()
    assert waited == [0]
    assert max(amount for amount, is_taken in budgets.ahead if is_taken) == largest
    assert len(budgets.ahead) < first / REQUESTS
    await core.close()
    assert await _reserved(budgets) == first


async def test_records_give_their_parts_back(
    budgets: BudgetStore,
    cores: list[Reservations],
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """Each record charges what it cost, and frees what its request had taken of the advance, and no more."""
    await _limit(budgets, spender, 100 * PLENTY)
    core = cores[0]
    taken = await _take(core, spender, 1) + await _take(core, spender, 5)
    assert [hold.is_part for hold in taken] == [False] + [True] * 5
    assert await _reserved(budgets) == 1 + REQUESTS
    usage = Usage(input_tokens=1, output_tokens=1)
    for number, hold in enumerate(taken[:4]):
        await completions.capture(
            make_record(
                id=f"chatcmpl-{number}",
                caller=spender,
                usage=usage,
                spend_nano_usd=1,
                created=now_s(),
                holds=(hold,),
            )
        )
    (budget,) = await budgets.list(now_s())
    assert (budget.spent_nano_usd, budget.reserved_nano_usd) == (4, REQUESTS - 3)
    core.recall()
    await core.take(spender, 50 * PLENTY)
    # What two requests that still run have of it, and the one that was just taken.
    assert await _reserved(budgets) == 2 + 50 * PLENTY


async def test_what_is_unused_comes_back_when_a_caller_pauses_and_when_a_core_stops(
    budgets: BudgetStore, cores: list[Reservations], spender: Caller
) -> None:
    """Other cores may need it; only what running requests hold stays."""
    await _limit(budgets, spender, PLENTY)
    for core in cores:
        (hold,) = await _take(core, spender, 1)
        holds = Holds()
        holds.taken.append(hold)
        core.keep(holds)
    assert await _reserved(budgets) > 2
    await cores[0].close()
    async with asyncio.timeout(60):
        while await _reserved(budgets) > 2:  # noqa: ASYNC110 - a row of a table
            await asyncio.sleep(0.05)


async def test_a_changed_budget_ends_advances(
    budgets: BudgetStore, cores: list[Reservations], spender: Caller
) -> None:
    """A budget that is new binds the next request, though there was an advance without it."""
    await _limit(budgets, spender, PLENTY)
    core = cores[0]
    await _take(core, spender, 2)
    key = Owner(
        organization=spender.organization, project=spender.project, api_key=spender.key or 0
    )
    await budgets.set(key, Limit(nano_usd=3, period="total"), now_s())
    core.recall()
    taken = await _take(core, spender, 10)
    assert len(taken) == 3
    assert {len(hold.windows) for hold in taken} == {2}


class _Leaving(BudgetStore):
    """Ends a task at the moment at which what it waited for was reserved."""

    leaving: asyncio.Task[Hold | None] | None = None

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        holds = await super().reserve(claims, **more)
        if self.leaving is not None:
            asyncio.get_running_loop().call_soon(self.leaving.cancel)
        return holds


async def test_what_was_reserved_for_a_caller_who_left_meanwhile_comes_back(
    database: Database, spender: Caller
) -> None:
    """Also if the caller leaves between the commit and the moment at which it would have been told."""
    budgets = _Leaving(database)
    await _limit(budgets, spender, 10)
    core = Reservations(budgets)
    budgets.leaving = asyncio.create_task(core.take(spender, 7))
    with pytest.raises(asyncio.CancelledError):
        await budgets.leaving
    budgets.leaving = None
    assert await core.take(spender, 10) is not None
    await core.close()


class _Held(BudgetStore):
    """Has reserved, and tells so only when it may."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.has_reserved = asyncio.Event()
        self.may_tell = asyncio.Event()

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        holds = await super().reserve(claims, **more)
        self.has_reserved.set()
        await self.may_tell.wait()
        return holds


async def test_what_is_being_reserved_when_a_core_stops_comes_back(
    database: Database, spender: Caller
) -> None:
    """Neither the request that left nor the advance keeps anything; whoever still waits is told."""
    budgets = _Held(database)
    await _limit(budgets, spender, PLENTY)
    core = Reservations(budgets)
    staying, leaving = (asyncio.create_task(core.take(spender, 1)) for _ in range(2))
    await budgets.has_reserved.wait()
    assert await _reserved(budgets) == 2 + REQUESTS
    leaving.cancel()
    closing = asyncio.create_task(core.close())
    budgets.may_tell.set()
    await closing
    assert await _reserved(budgets) == 1
    assert await staying is not None


class _Unsure(BudgetStore):
    """Reserves, and loses the answer."""

    is_cut = True

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        holds = await super().reserve(claims, **more)
        if self.is_cut:
            raise StorageError("the connection was lost")
        return holds


async def test_what_was_reserved_without_an_answer_comes_back(
    database: Database, spender: Caller
) -> None:
    """A transaction may be committed although its connection broke; nobody uses what it reserved, nor the advance."""
    budgets = _Unsure(database)
    await _limit(budgets, spender, PLENTY)
    core = Reservations(budgets)
    with pytest.raises(StorageError):
        await core.take(spender, 1)
    assert await _reserved(budgets) == 1 + REQUESTS
    budgets.is_cut = False
    assert await core.take(spender, PLENTY) is not None
    await core.close()


async def test_what_lapsed_while_a_core_was_held_up_is_its_own_still(  # noqa: PLR0917 - fixtures
    budgets: BudgetStore,
    cores: list[Reservations],
    spender: Caller,
    plain_sql: PlainSQL,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """A core that was stopped, or whose clock jumped, frees nothing for others, and goes on with what it has."""
    await _limit(budgets, spender, PLENTY)
    held_up, other = cores
    single, *parts = await _take(held_up, spender, 1) + await _take(held_up, spender, 4)
    assert [hold.is_part for hold in (single, *parts)] == [False] + [True] * 4
    # What the database's clock would have done in two minutes.
    plain_sql.execute("UPDATE budget_reservations SET expires = 1")
    assert await other.take(spender, PLENTY - REQUESTS) is None
    rest = await other.take(spender, PLENTY - REQUESTS - 1)
    assert rest is not None
    parts += await _take(held_up, spender, REQUESTS - 4)
    assert len(parts) == REQUESTS
    assert await other.take(spender, 1) is None
    for hold in (single, *parts, rest):
        amount = hold.amount_nano_usd
        await completions.capture(
            make_record(
                caller=spender, holds=(hold,), charge_nano_usd=amount, spend_nano_usd=amount
            )
        )
    (budget,) = await budgets.list(now_s())
    assert (budget.spent_nano_usd, budget.reserved_nano_usd) == (PLENTY, 0)


class _Looking(BudgetStore):
    """Asks, during each transaction, whether anything comes back."""

    core: Reservations

    def __init__(self, database: Database, spender: Caller) -> None:
        super().__init__(database)
        self.spender = spender
        self.recalled: list[bool] = []

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        if more["unused"]:
            self.recalled.append(self.core.recall_of(self.spender))
        return await super().reserve(claims, **more)


async def test_whoever_is_refused_while_advances_come_back_is_told_so(
    database: Database, spender: Caller
) -> None:
    """Several may be refused at once; what is on its way back may be enough for each of them."""
    budgets = _Looking(database, spender)
    await _limit(budgets, spender, PLENTY)
    core = budgets.core = Reservations(budgets)
    await core.take(spender, 1)
    assert core.recall_of(spender)
    assert core.recall_of(spender)
    await core.take(spender, PLENTY - 1)
    assert budgets.recalled == [True]
    assert not core.recall_of(spender)
    await core.close()


async def test_a_refusal_costs_other_organizations_nothing(
    budgets: BudgetStore, cores: list[Reservations], spender: Caller, keys: KeyStore
) -> None:
    """What a caller lacks is not in the advances of those who spend from other budgets."""
    await keys.create(name="2", secret_hash=b"2", prefix="mk-2", project="x", organization="other")
    row = await keys.resolve(b"2")
    assert row is not None
    other = row.caller
    await _limit(budgets, spender, PLENTY)
    await _limit(budgets, other, PLENTY)
    core = cores[0]
    await _take(core, spender, 1)
    await _take(core, other, 1)
    core.recall_of(spender)
    (theirs,) = await _take(core, other, 1)
    (own,) = await _take(core, spender, 1)
    assert (theirs.is_part, own.is_part) == (True, False)


class _Mistaken(BudgetStore):
    """Does what no store may do, once."""

    is_mistaken = True

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.renewed = asyncio.Event()

    async def reserve(self, claims: Sequence[Claim], **more: Any) -> list[Hold | None]:
        if self.is_mistaken:
            self.is_mistaken = False
            return []
        return await super().reserve(claims, **more)

    async def renew(self, ids: Sequence[str], **more: Any) -> None:
        if self.is_mistaken:
            self.is_mistaken = False
            raise AttributeError("odd")
        await super().renew(ids, **more)
        self.renewed.set()


async def test_a_mistake_while_reserving_lets_nobody_wait_for_ever(
    database: Database, spender: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of that batch learn of it, the log says so, and the next ones are served."""
    budgets = _Mistaken(database)
    await _limit(budgets, spender, PLENTY)
    core = Reservations(budgets)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(core.take(spender, 1) for _ in range(3)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [StorageError] * 3
        assert await core.take(spender, 1) is not None
    assert "reservations could not be taken" in caplog.text
    await core.close()


async def test_a_mistake_while_renewing_is_made_good(
    database: Database,
    spender: Caller,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came back is given back all the same, and the log says what happened."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    budgets = _Mistaken(database)
    budgets.is_mistaken = False
    await _limit(budgets, spender, PLENTY)
    core = Reservations(budgets)
    assert await core.take(spender, 1) is not None
    budgets.is_mistaken = True
    core.recall()
    async with asyncio.timeout(30):
        await budgets.renewed.wait()
    assert await _reserved(budgets) == 1
    assert "keeping budget reservations failed" in caplog.text
    await core.close()
