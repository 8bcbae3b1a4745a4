"""Calls that ran when a core was killed: recorded once, charged, and shown as of unknown outcome."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from maniac_common import supervised
from maniac_core.domain.budgets import Limit, Owner, Period
from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import ChatRequest
from maniac_core.domain.completions import CompletionRecord
from maniac_core.domain.ids import now_s
from maniac_core.domain.usage import UsageSelection
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.capture.capture import Call, Capture
from maniac_core.services.capture.holds import Holds
from maniac_core.services.capture.running_calls import RunningCalls
from maniac_core.services.routing.planner import Step
from maniac_core.storage.base import Database, StorageError
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.usage import UsageStore

STEP = cast(
    Step,
    SimpleNamespace(
        candidate=SimpleNamespace(slug="p/m", provider="p", model="m", model_id=None),
        container=None,
    ),
)
PERIODS: tuple[Period, ...] = ("day", "month", "total")
MakeCore = Callable[[], "_Core"]


class _Core:
    """What one process has; it is killed without a word."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.store = CompletionStore(database)
        self.budgets = BudgetStore(database)
        self.calls = RunningCalls(folder, self.store, self.budgets)
        self.reservations = Reservations(self.budgets, self.calls.holder)

    async def call(
        self, caller: Caller, amount: int, *, store: bool = True, request_id: str = "r"
    ) -> Capture:
        """Reserve, and be about to call a provider."""
        request = ChatRequest(
            messages=[{"role": "user", "content": "Hi"}], model="p/m", store=store
        )
        capture = Capture(
            self.store, Call(caller=caller, request_id=request_id), request, streamed=False
        )
        if amount:
            hold = await self.reservations.take(caller, amount)
            assert hold is not None
            holds = Holds()
            holds.add(hold)
            holds.cover(STEP, amount)
            capture.covered(holds)
        note = self.calls.note(capture, STEP)
        if note is not None:
            capture.noted(note)
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
    monkeypatch.setattr("maniac_core.services.capture.running_calls._RETRY_S", 0)
    await (await alive.calls.open())
    assert await _totals(database, spender) == (1, 1, 0)


async def test_a_note_that_is_cut_off_costs_itself_alone(
    make_core: MakeCore, database: Database, spender: Caller, tmp_path: Path
) -> None:
    """A process can be killed in the middle of writing one, and more calls can run than there are places for."""
    dead = make_core()
    await dead.calls.open()
    captures = [await dead.call(spender, 0) for _ in range(4100)]
    assert [capture.note is None for capture in captures] == [False] * 4096 + [True] * 4
    for capture in captures[2:4096]:
        assert capture.note is not None
        dead.calls.settled(capture.note.offset)
    dead.kill()
    (path,) = (tmp_path / "calls").glob("*.calls")
    place = captures[0].note
    assert place is not None
    with path.open("r+b") as file:
        file.seek(place.offset + 10)
        file.write(b"\xc1" * 50)
    alive = make_core()
    await (await alive.calls.open())
    assert await _totals(database, spender) == (1, 1, 0)
    assert await alive.store.get(spender.project, captures[1].id)


@pytest.mark.parametrize("letter", ["m", "\N{GREEK SMALL LETTER MU}", "\N{GRINNING FACE}"])
async def test_long_names_and_many_reservations_have_room_in_a_place(
    make_core: MakeCore, spender: Caller, letter: str
) -> None:
    """Nine budgets hold a request, and each of its attempts has reserved something more."""
    dead = make_core()
    await dead.calls.open()
    owner = Owner(organization=spender.organization)
    for number, period in enumerate(PERIODS):
        for one in (
            owner,
            msgspec.structs.replace(owner, project=spender.project),
            msgspec.structs.replace(owner, project=spender.project, api_key=spender.key or 0),
        ):
            await dead.budgets.set(one, Limit(nano_usd=10**12 + number, period=period), now_s())
    capture = await dead.call(spender, 10**9, request_id="r" * 300)
    assert capture.holds is not None
    for _ in range(11):
        hold = await dead.reservations.take(spender, 10**9)
        assert hold is not None
        capture.holds.add(hold)
    name = letter * 200
    candidate = SimpleNamespace(slug=f"p/{name}", provider="p", model=name, model_id="i" * 36)
    container = SimpleNamespace(key=1, label="l" * 64)
    step = SimpleNamespace(candidate=candidate, container=container)
    capture.holds.cover(cast(Step, step), 12 * 10**9)
    dead.calls.note(capture, cast(Step, step))
    dead.kill()

    alive = make_core()
    await (await alive.calls.open())
    budgets = await alive.budgets.list(now_s())
    assert {(one.spent_nano_usd, one.reserved_nano_usd) for one in budgets} == {(12 * 10**9, 0)}
    assert len(budgets) == 9
    found = await alive.store.get(spender.project, capture.id)
    assert found is not None
    assert (found.status, found.spend_nano_usd) == ("unknown", 12 * 10**9)
    assert (found.model or "").startswith("p/" + letter * 10)


async def test_a_core_that_starts_beside_another_keeps_its_file(
    make_core: MakeCore, spender: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other may find the file before it is locked, and take it for one that was left behind."""
    lock = fcntl.flock

    def find_first(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        (path,) = (tmp_path / "calls").glob("*.calls")
        path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", find_first)
    dead = make_core()
    await dead.calls.open()
    capture = await dead.call(spender, 0)
    dead.kill()
    alive = make_core()
    await (await alive.calls.open())
    assert await alive.store.get(spender.project, capture.id)


async def test_a_mistake_while_settling_is_made_good(
    make_core: MakeCore,
    database: Database,
    spender: Caller,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The call is recorded at the next attempt, and the log says what happened."""
    monkeypatch.setattr(supervised, "_FIRST_PAUSE_S", 0.001)
    dead = make_core()
    await dead.calls.open()
    await dead.call(spender, 0)
    dead.kill()

    alive = make_core()
    capture, mistakes = alive.store.capture, [AttributeError("odd")]

    def mistaken(record: CompletionRecord) -> asyncio.Future[None]:
        if mistakes:
            raise mistakes.pop()
        return capture(record)

    monkeypatch.setattr(alive.store, "capture", mistaken)
    async with asyncio.timeout(30):
        await (await alive.calls.open())
    assert (await _totals(database, spender))[1] == 1
    assert "settling calls failed" in caplog.text
