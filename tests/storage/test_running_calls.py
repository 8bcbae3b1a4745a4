"""Calls that ran when a core was killed: recorded once, charged, and shown as of unknown outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from maniac_core.domain.budgets import Hold, Limit, Owner
from maniac_core.domain.chat import ChatRequest
from maniac_core.domain.ids import now_s
from maniac_core.domain.records import Caller, CompletionRecord
from maniac_core.domain.usage import UsageSelection
from maniac_core.services.capture import Call, Capture
from maniac_core.services.holds import Holds
from maniac_core.services.plan import Step
from maniac_core.services.reservations import Reservations
from maniac_core.services.running_calls import RunningCalls
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.budgets import BudgetStore
from maniac_core.storage.completions import CompletionStore
from maniac_core.storage.keys import KeyStore
from maniac_core.storage.usage import UsageStore

STEP = cast(
    Step,
    SimpleNamespace(
        candidate=SimpleNamespace(slug="p/m", provider="p", model="m", model_id=None),
        container=None,
    ),
)
MakeCore = Callable[[], "_Core"]


class _Core:
    """What one process has; it is killed without a word."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.store = CompletionStore(database)
        self.budgets = BudgetStore(database)
        self.calls = RunningCalls(folder, self.store, self.budgets)
        self.reservations = Reservations(self.budgets, self.calls.holder)

    async def call(self, caller: Caller, amount: int, *, store: bool = True) -> Capture:
        """Reserve, and be about to call a provider."""
        request = ChatRequest(
            messages=[{"role": "user", "content": "Hi"}], model="p/m", store=store
        )
        capture = Capture(self.store, Call(caller=caller, request_id="r"), request, streamed=False)
        if amount:
            hold = await self.reservations.take(caller, amount)
            assert hold is not None
            capture.holds = Holds()
            capture.holds.taken.append(hold)
            capture.trail.worst_nano_usd = amount
        self.calls.note(capture, STEP)
        return capture

    def kill(self) -> None:
        """Lose all that is in memory: a map of a file is written by the kernel."""
        calls = cast(Any, self.calls)
        calls._free = []
        self.calls.close()


@pytest.fixture
async def make_core(tmp_path: Path, database: Database) -> AsyncIterator[MakeCore]:
    made: list[_Core] = []

    def make() -> _Core:
        core = _Core(tmp_path / "calls", database)
        made.append(core)
        return core

    yield make
    for core in made:
        core.calls.close()


@pytest.fixture
async def spender(keys: KeyStore) -> Caller:
    """Return the caller of a real key."""
    await keys.create(name="n", secret_hash=b"h", prefix="mk-1", project="web", organization="acme")
    row = await keys.resolve(b"h")
    assert row is not None
    return row.caller


async def _totals(database: Database, caller: Caller) -> tuple[int, int, int]:
    today = datetime.now(UTC).date()
    selection = UsageSelection(first_day=today, last_day=today)
    report = await UsageStore(database).report(caller, selection, (), limit=9, skip=0)
    return report.totals.requests, report.totals.unknown, report.totals.spend_nano_usd


async def test_what_ran_when_a_core_was_killed_is_charged_and_shown(
    make_core: MakeCore, database: Database, spender: Caller
) -> None:
    """Each call once, at the most that it can have cost; what was reserved besides is free at once."""
    dead = make_core()
    await dead.calls.open()
    await dead.budgets.set(
        Owner(organization=spender.organization), Limit(nano_usd=10**9, period="total"), now_s()
    )
    # The first is reserved by itself, the others take parts of an advance, of which much is left.
    captures = [await dead.call(spender, 1000) for _ in range(4)]
    unbudgeted = await dead.call(spender, 0, store=False)
    await captures[0].finish("completed")
    # Committed, but the process died before it heard of it.
    lost = captures[1].submit("completed")
    assert lost is not None
    captures[1].trail.charge_nano_usd = 0
    await asyncio.wait([lost])
    dead.kill()

    for _ in range(2):
        alive = make_core()
        await (await alive.calls.open())
        (budget,) = await alive.budgets.list(now_s())
        assert (budget.spent_nano_usd, budget.reserved_nano_usd) == (2000, 0)
        assert await _totals(database, spender) == (5, 3, 2000)
    for capture in captures[2:]:
        found = await alive.store.get(spender.project, capture.id)
        assert found is not None
        assert (found.status, found.spend_nano_usd) == ("unknown", 1000)
    assert await alive.store.get(spender.project, unbudgeted.id) is None, "it was not to be stored"


async def test_cores_that_are_alive_keep_their_calls(
    make_core: MakeCore, database: Database, spender: Caller, tmp_path: Path
) -> None:
    """Several may share a folder; one that stops in order leaves nothing."""
    first, second = make_core(), make_core()
    await first.calls.open()
    capture = await first.call(spender, 0)
    await second.calls.open()
    assert await _totals(database, spender) == (0, 0, 0)
    await capture.finish("completed")
    for core in (first, second):
        core.calls.close()
    assert list((tmp_path / "calls").iterdir()) == []


async def test_a_database_that_is_away_is_asked_again(
    make_core: MakeCore,
    database: Database,
    spender: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is forgotten, and the core serves meanwhile."""
    dead, alive = make_core(), make_core()
    await dead.calls.open()
    await dead.call(spender, 0)
    dead.kill()
    capture = alive.store.capture

    def refuse(_record: CompletionRecord) -> asyncio.Future[None]:
        monkeypatch.setattr(alive.store, "capture", capture)
        raise StorageError("away")

    monkeypatch.setattr(alive.store, "capture", refuse)
    monkeypatch.setattr("maniac_core.services.running_calls._RETRY_S", 0)
    await (await alive.calls.open())
    assert await _totals(database, spender) == (1, 1, 0)


async def test_a_note_that_is_cut_off_costs_itself_alone(
    make_core: MakeCore, database: Database, spender: Caller, tmp_path: Path
) -> None:
    """A process can be killed in the middle of writing one, and more calls can run than there are places for."""
    dead = make_core()
    await dead.calls.open()
    captures = [await dead.call(spender, 0) for _ in range(4100)]
    assert [capture.place is None for capture in captures] == [False] * 4096 + [True] * 4
    for capture in captures[2:4096]:
        assert capture.place is not None
        dead.calls.settled(capture.place.offset)
    dead.kill()
    (path,) = (tmp_path / "calls").glob("*.calls")
    place = captures[0].place
    assert place is not None
    with path.open("r+b") as file:
        file.seek(place.offset + 10)
        file.write(b"\xc1" * 50)
    alive = make_core()
    await (await alive.calls.open())
    assert await _totals(database, spender) == (1, 1, 0)
    assert await alive.store.get(spender.project, captures[1].id)


def test_holds_fit_into_a_place() -> None:
    """With three budgets, two reservations and the longest names a note has room."""
    from maniac_core.services import running_calls

    windows = ((2**40, 2**31), (2**40, 2**31), (2**40, 2**31))
    holds = tuple(
        Hold(id="0" * 36, amount_nano_usd=2**52, windows=windows, is_part=True) for _ in range(2)
    )
    call = running_calls._Call(
        id="c" * 40,
        key=2**40,
        project=2**40,
        organization=2**40,
        created=2**31,
        request_id="r" * 128,
        store=True,
        streamed=True,
        requested_model="m" * 128,
        model="m" * 128,
        provider="p" * 30,
        model_id="m" * 36,
        container=2**40,
        container_label="l" * 64,
        number=3,
        upstream_model="m" * 128,
        most_nano_usd=2**52,
        holds=holds,
    )
    assert len(running_calls._encode(call)) <= 1500
