"""Budgets in the database: what is reserved and spent never exceeds a limit, whoever asks at the same time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from maniac_core.domain.budgets import Hold, Limit, Owner, Period, period_end, period_starts
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import Usage
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.domain.usage import UsageSelection, UsageTotals
from maniac_core.storage.base import Database
from maniac_core.storage.stores.budgets import BudgetStore, Claim
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.usage import UsageStore

RecordFactory = Callable[..., CompletionRecord]
Reserve = Callable[..., Awaitable[Hold | None]]
ReadTable = Callable[[str], list[dict[str, Any]]]
_ids = itertools.count()


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
def reserve(budgets: BudgetStore, spender: Caller) -> Reserve:
    async def once(
        amount: int, *, now: int | None = None, caller: Caller = spender, lease_s: int = 100
    ) -> Hold | None:
        now = now_s() if now is None else now
        claim = Claim(id=f"r{next(_ids)}", caller=caller, amount_nano_usd=amount)
        return (await budgets.reserve([claim], now=now, lease_s=lease_s))[0]

    return once


def _owners(caller: Caller) -> list[Owner]:
    key = caller.key or 0
    return [
        Owner(organization=caller.organization),
        Owner(organization=caller.organization, project=caller.project),
        Owner(organization=caller.organization, project=caller.project, api_key=key),
    ]


def _limit(nano_usd: int, period: Period = "total") -> Limit:
    return Limit(nano_usd=nano_usd, period=period)


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_a_limit_is_reached_exactly(
    budgets: BudgetStore, reserve: Reserve, spender: Caller, level: int
) -> None:
    """Of an organization, a project or a key: the last nano-USD can be reserved, and none more."""
    await budgets.set(_owners(spender)[level], _limit(10), now_s())
    assert await reserve(6)
    assert await reserve(5) is None
    assert await reserve(4)
    assert await reserve(1) is None


async def test_all_budgets_of_a_caller_must_have_room_or_none_is_touched(
    budgets: BudgetStore, reserve: Reserve, spender: Caller
) -> None:
    """A refusal by the narrowest budget leaves nothing reserved in the wider ones."""
    organization, _, key = _owners(spender)
    await budgets.set(organization, _limit(100), now_s())
    await budgets.set(key, _limit(10), now_s())
    assert await reserve(11) is None
    fits = await budgets.check(spender, 11, now_s())
    assert [(fit.kind, fit.is_short) for fit in fits] == [("key", True), ("organization", False)]
    hold = await reserve(10)
    assert hold is not None
    assert len(hold.windows) == 2
    assert {one.kind: one.reserved_nano_usd for one in await budgets.list(now_s())} == {
        "organization": 10,
        "key": 10,
    }


async def test_other_callers_have_their_own(
    budgets: BudgetStore, reserve: Reserve, spender: Caller, keys: KeyStore
) -> None:
    """A key's budget holds for that key, a project's for its keys; the caches are told which callers have one."""
    await keys.create(name="2", secret_hash=b"2", prefix="mk-2", project="web", organization="acme")
    await keys.create(name="3", secret_hash=b"3", prefix="mk-3", project="x", organization="acme")

    async def resolve(secret: bytes) -> Caller:
        row = await keys.resolve(secret)
        assert row is not None
        return row.caller

    _, project, key = _owners(spender)
    await budgets.set(key, _limit(1), now_s())
    assert [(await resolve(one)).is_budgeted for one in (b"h", b"2", b"3")] == [True, False, False]
    await budgets.set(project, _limit(5), now_s())
    assert [(await resolve(one)).is_budgeted for one in (b"h", b"2", b"3")] == [True, True, False]
    assert await reserve(5, caller=await resolve(b"2"))
    assert await reserve(1) is None, "the project's budget is shared"
    assert await budgets.check(await resolve(b"3"), 99, now_s()) == []


async def test_a_record_charges_what_was_spent_and_gives_back_the_rest(
    budgets: BudgetStore,
    reserve: Reserve,
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """Charge and release come with the record; the spend of usage reports may lack what had no price."""
    for owner in _owners(spender):
        await budgets.set(owner, _limit(100), now_s())
    for charge, spend, expected in ((7, 7, 7), (11, None, 18), (0, None, 18), (0, 0, 18)):
        hold, more = await reserve(20), await reserve(10)
        assert hold is not None
        assert more is not None
        await completions.capture(
            make_record(
                caller=spender, spend_nano_usd=spend, charge_nano_usd=charge, holds=(hold, more)
            )
        )
        states = {
            (one.spent_nano_usd, one.reserved_nano_usd) for one in await budgets.list(now_s())
        }
        assert states == {(expected, 0)}


async def test_what_an_earlier_version_spooled_is_charged_as_it_would_have(
    budgets: BudgetStore,
    reserve: Reserve,
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """Records without a charge: an unknown price charges all that was reserved, nothing used nothing."""
    await budgets.set(_owners(spender)[0], _limit(100), now_s())
    for spend, usage in (
        (7, Usage(input_tokens=1)),
        (None, Usage(input_tokens=1)),
        (None, Usage()),
        (0, Usage()),
    ):
        holds = (await reserve(20), await reserve(5))
        record = make_record(caller=spender, spend_nano_usd=spend, usage=usage, holds=holds)
        fields = msgspec.to_builtins(record)
        del fields["charge_nano_usd"]
        await completions.capture(
            msgspec.json.decode(msgspec.json.encode(fields), type=CompletionRecord)
        )
    [budget] = await budgets.list(now_s())
    assert (budget.spent_nano_usd, budget.reserved_nano_usd) == (7 + 25, 0)


async def test_a_new_budget_owes_nothing_for_a_removed_one(
    budgets: BudgetStore,
    reserve: Reserve,
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """What runs when its budget is removed has reserved nothing of the next budget, and is not charged to it."""
    organization, _, key = _owners(spender)
    await budgets.set(organization, _limit(100), now_s())
    hold = await reserve(20)
    assert await budgets.remove(organization, "total")
    await budgets.set(key, _limit(100), now_s())
    # Its period begins.
    other = await reserve(100)
    assert other is not None
    record = make_record(caller=spender, spend_nano_usd=7, charge_nano_usd=7, holds=(hold,))
    await completions.capture(record)
    [budget] = await budgets.list(now_s())
    assert (budget.kind, budget.spent_nano_usd, budget.reserved_nano_usd) == ("key", 0, 100)


async def test_removing_a_budget_leaves_what_is_reserved_of_others(
    budgets: BudgetStore, reserve: Reserve, spender: Caller, read_table: ReadTable
) -> None:
    """Of the removed one nothing is left."""
    organization, _, key = _owners(spender)
    for owner in (organization, key):
        await budgets.set(owner, _limit(100), now_s())
    assert await reserve(20)
    assert await budgets.remove(organization, "total")
    [budget] = await budgets.list(now_s())
    assert budget.reserved_nano_usd == 20
    assert len(read_table("SELECT * FROM budget_reservations")) == 1
    assert len(read_table("SELECT * FROM budget_windows")) == 1


async def test_what_nobody_renews_stays_charged_until_its_record_comes(  # noqa: PLR0917 - fixtures
    budgets: BudgetStore,
    reserve: Reserve,
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
    database: Database,
) -> None:
    """Its core may be gone, with a call that is paid for, or it is held up: then the record settles it, once."""
    await budgets.set(_owners(spender)[0], _limit(10), now_s())
    await budgets.set(_owners(spender)[2], _limit(10), now_s())

    async def state() -> set[tuple[int, int, int]]:
        return {
            (one.spent_nano_usd, one.reserved_nano_usd, one.unknown_nano_usd)
            for one in await budgets.list(now_s())
        }

    async def used() -> UsageTotals:
        today = datetime.now(UTC).date()
        selection = UsageSelection(first_day=today, last_day=today)
        report = await UsageStore(database).report(spender, selection, ("key",), limit=9, skip=0)
        assert sum(group.totals.requests for group in report.groups) == report.totals.requests
        return report.totals

    lost = await reserve(6, lease_s=-1)
    held_up = await reserve(4, lease_s=-1)
    assert lost is not None
    assert held_up is not None
    assert await state() == {(10, 0, 10)}
    assert await reserve(1) is None, "clocks that jump free nothing"
    totals = await used()
    assert (totals.requests, totals.unknown, totals.spend_nano_usd) == (2, 2, 10)

    await budgets.renew([held_up.id], lease_s=100)
    assert await state() == {(6, 4, 6)}
    record = make_record(
        caller=spender, spend_nano_usd=1, charge_nano_usd=1, holds=(held_up,), created=now_s()
    )
    await completions.capture(record)
    assert await state() == {(7, 0, 6)}
    totals = await used()
    assert (totals.requests, totals.unknown, totals.spend_nano_usd) == (2, 1, 7)
    assert await reserve(3)


async def test_what_is_unused_of_an_advance_is_given_back_once(
    budgets: BudgetStore, spender: Caller, read_table: ReadTable
) -> None:
    """However often it is tried, because nobody knows whether the first try was committed before the answer was lost."""
    await budgets.set(_owners(spender)[0], _limit(100), now_s())
    claim = Claim(id="a", caller=spender, amount_nano_usd=64, is_ahead=True)
    (advance,) = await budgets.reserve([claim], now=now_s(), lease_s=-1)
    assert advance is not None
    rest = msgspec.structs.replace(advance, amount_nano_usd=60, is_part=True, is_rest=True)
    for _ in range(2):
        await budgets.renew([], lease_s=9, unused=[rest])
    (budget,) = await budgets.list(now_s())
    assert budget.unknown_nano_usd == 4
    part = msgspec.structs.replace(advance, amount_nano_usd=4, is_part=True)
    await budgets.reserve([], now=now_s(), lease_s=9, unused=[part])
    await budgets.reserve([], now=now_s(), lease_s=9)
    assert read_table("SELECT * FROM budget_reservations") == []


async def test_what_a_dead_process_held_can_be_given_back(
    budgets: BudgetStore, spender: Caller
) -> None:
    """By whoever knows that all its calls are recorded."""
    await budgets.set(_owners(spender)[0], _limit(100), now_s())
    for number, holder in enumerate(("dead", "alive", "dead")):
        claim = Claim(id=f"c{number}", caller=spender, amount_nano_usd=10)
        await budgets.reserve([claim], now=now_s(), lease_s=9, holder=holder)
    await budgets.release("dead")
    (budget,) = await budgets.list(now_s())
    assert budget.reserved_nano_usd == 10


async def test_abandoned_reservations_are_free_at_once(
    budgets: BudgetStore, reserve: Reserve, spender: Caller
) -> None:
    """What a caller that went away had reserved is given back with the next reservation, or with a renewal."""
    await budgets.set(_owners(spender)[0], _limit(10), now_s())
    now = now_s()
    first = await reserve(10)
    assert first is not None
    claim = Claim(id="next", caller=spender, amount_nano_usd=10)
    following = (await budgets.reserve([claim], now=now, lease_s=9, unused=[first]))[0]
    assert following is not None
    await budgets.renew([], lease_s=9, unused=[following])
    assert await reserve(10)


async def test_a_new_budget_counts_what_its_period_has_spent(
    budgets: BudgetStore,
    reserve: Reserve,
    spender: Caller,
    completions: CompletionStore,
    make_record: RecordFactory,
) -> None:
    """Set in the middle of a day it begins with the day's spend, without that of internal and registered requests."""
    now = now_s()
    for created, status, key, spend in (
        (now, "completed", spender.key, 40),
        (now, "failed", spender.key, 2),
        (now, "registered", spender.key, 1000),
        (now, "completed", None, 1000),
        (now - 40 * 86_400, "completed", spender.key, 500),
    ):
        caller = Caller(
            key=key,
            project=spender.project,
            organization=spender.organization,
            project_id="p",
            organization_id="o",
        )
        await completions.capture(
            make_record(caller=caller, created=created, status=status, spend_nano_usd=spend)
        )
    for period in ("day", "month", "total"):
        await budgets.set(_owners(spender)[1], _limit(1000, period), now)
    before = {one.limit.period: one.spent_nano_usd for one in await budgets.list(now)}
    assert await reserve(1)
    after = {one.limit.period: one.spent_nano_usd for one in await budgets.list(now)}
    assert before == after == {"day": 42, "month": 42, "total": 542}


async def test_a_new_period_begins_with_nothing_spent(
    budgets: BudgetStore, reserve: Reserve, spender: Caller
) -> None:
    """At midnight UTC and on the first of a month; a total never begins anew."""
    midnight = int(datetime(2032, 1, 1, tzinfo=UTC).timestamp())
    organization, project, key = _owners(spender)
    await budgets.set(key, _limit(10, "day"), midnight)
    await budgets.set(project, _limit(15, "month"), midnight)
    await budgets.set(organization, _limit(25, "total"), midnight)
    assert await reserve(10, now=midnight - 50)
    assert await reserve(1, now=midnight - 1) is None
    assert await reserve(10, now=midnight)
    fits = await budgets.check(spender, 6, midnight)
    assert [(fit.kind, fit.is_short) for fit in fits] == [
        ("key", True),
        ("project", True),
        ("organization", True),
    ]


@pytest.mark.parametrize(
    ("now", "month", "end"),
    [
        ("2028-02-29T23:59:59", "2028-02-01", "2028-03-01"),
        ("2027-12-31T00:00:00", "2027-12-01", "2028-01-01"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(now: str, month: str, end: str) -> None:
    """Days and months begin and end at midnight UTC, also in leap years and at the turn of a year."""

    def at(text: str) -> int:
        return int(datetime.fromisoformat(f"{text}+00:00").timestamp())

    day, start = period_starts(at(now))
    assert (day, start) == (at(f"{now[:10]}T00:00:00"), at(f"{month}T00:00:00"))
    assert period_end("month", start) == at(f"{end}T00:00:00")
    assert period_end("day", day) == day + 86_400
    assert period_end("total", 0) is None


@pytest.fixture
async def cores(open_database: Callable[[], Database]) -> AsyncIterator[list[BudgetStore]]:
    """Return the stores of three cores on the same data."""
    databases = [open_database() for _ in range(3)]
    for database in databases:
        await database.start()
    yield [BudgetStore(database) for database in databases]
    for database in databases:
        await database.close()


async def test_cores_that_reserve_at_once_never_exceed_the_limit(
    cores: list[BudgetStore], spender: Caller
) -> None:
    """300 claims from three cores, in many batches, against room for 100: exactly 100 are granted."""
    organization, project, key = _owners(spender)
    await cores[0].set(organization, _limit(100 * 7 + 6), now_s())
    await cores[0].set(project, _limit(1000 * 7, "day"), now_s())
    await cores[0].set(key, _limit(1000 * 7, "month"), now_s())
    now = now_s()
    claims = [Claim(id=f"c{n}", caller=spender, amount_nano_usd=7) for n in range(300)]
    batches = [claims[n : n + 5] for n in range(0, 300, 5)]
    results = await asyncio.gather(
        *(
            core.reserve(batch, now=now, lease_s=100)
            for batch, core in zip(batches, itertools.cycle(cores), strict=False)
        )
    )
    granted = [hold for holds in results for hold in holds if hold is not None]
    assert len(granted) == 100
    assert {one.reserved_nano_usd for one in await cores[0].list(now)} == {700}


async def test_cores_whose_clocks_differ_never_exceed_the_limit(
    cores: list[BudgetStore], spender: Caller
) -> None:
    """Three minutes apart, and jumping: what one of them holds never looks free to another."""
    await cores[0].set(_owners(spender)[0], _limit(100 * 7 + 6), now_s())
    now = now_s()
    granted = 0
    for round_number in range(6):
        for number, skew in enumerate((-200, 0, 180)):
            claims = [
                Claim(id=f"s{round_number}-{number}-{n}", caller=spender, amount_nano_usd=7)
                for n in range(10)
            ]
            clock = now + skew * (round_number + 1)
            # Of some the lease is over as soon as it begins, as of a core that is stopped.
            holds = await cores[number].reserve(claims, now=clock, lease_s=60 * (1 - number))
            granted += sum(hold is not None for hold in holds)
    assert granted == 100


async def test_a_removed_budget_limits_nobody(
    budgets: BudgetStore, reserve: Reserve, spender: Caller
) -> None:
    """Removing says whether there was one; setting it again begins anew with what the sums have."""
    owner = _owners(spender)[0]
    await budgets.set(owner, _limit(0), now_s())
    assert await reserve(1) is None
    assert await budgets.remove(owner, "total")
    assert not await budgets.remove(owner, "total")
    assert await budgets.check(spender, 1, now_s()) == []
    assert await budgets.list(now_s()) == []
