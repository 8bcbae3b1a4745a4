"""Budgets in the database: limits, what is spent of them, and what running requests have reserved."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from maniac_core.domain.audit import COMMAND, Actor
from maniac_core.domain.budgets import (
    Budget,
    Hold,
    Limit,
    Owner,
    OwnerKind,
    Period,
    period_end,
    period_starts,
)
from maniac_core.domain.callers import Caller, Spender
from maniac_core.storage.base import Database, Params, Row, Statement
from maniac_core.storage.stores.audit import audited_budget

_FIND_OWNER = {
    "organization": "find_organizations",
    "project": "find_projects",
    "key": "find_budget_keys",
}


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The reservation for one request."""

    id: str
    caller: Caller
    amount_nano_usd: int
    room_nano_usd: int = 0
    """The amount that must be free, if it is larger."""
    is_ahead: bool = False
    """Whether it is for requests that are still to come."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, seen from a request."""

    kind: OwnerKind
    period: Period
    is_short: bool
    """Whether the request does not fit into it."""
    window: tuple[int, int]
    """Its running period: the storage's key of the budget, and the period's first second."""


class BudgetStore:
    """Budgets of all organizations. Times are Unix seconds.

    What is spent is not written here: a record brings it along, in the transaction that captures it.
    A reservation that is not renewed within `lease_s` seconds, by the clock of the database, still counts; reports call
    it a request of unknown outcome. Its record takes it away, however late that comes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(
        self,
        claims: Sequence[Claim],
        *,
        now: int,
        lease_s: int,
        holder: str = "",
        unused: Sequence[Hold] = (),
    ) -> list[Hold | None]:
        """Reserve each claim from all budgets of its caller, in order; None for one that does not fit.

        `now` says which periods run, `holder` which process reserves. `unused` is given back first. Everything is one
        transaction, however many cores do this at once: organizations are locked one after the other in the same order
        everywhere.
        """
        statements = [Statement("sweep_reservations"), *_given_back(unused)]
        organizations = sorted({claim.caller.organization for claim in claims})
        statements += [
            Statement("take_budget_turn", {"organization": organization})
            for organization in organizations
        ]
        scopes: dict[Spender, Params] = {}
        for claim in claims:
            scopes.setdefault(claim.caller.spender, _scope(claim.caller, now))
        statements += [Statement("open_budget_windows", scope) for scope in scopes.values()]
        statements += [
            Statement(
                "reserve_budgets",
                {
                    **scopes[claim.caller.spender],
                    "id": claim.id,
                    "amount": claim.amount_nano_usd,
                    "room": max(claim.amount_nano_usd, claim.room_nano_usd),
                    "lease_s": lease_s,
                    "holder": holder,
                    "ahead": int(claim.is_ahead),
                },
            )
            for claim in claims
        ]
        results = await self._database.write(statements)
        results = results[len(results) - len(claims) :]
        return [_hold(claim, rows) for claim, rows in zip(claims, results, strict=True)]

    async def check(self, caller: Caller, amount_nano_usd: int, now: int) -> list[Fit]:
        """Return the budgets of a caller, narrowest first, and whether they have room for an amount now."""
        rows = await self._database.fetch_all(
            "check_budgets", {**_scope(caller, now), "amount": amount_nano_usd}
        )
        rows.sort(key=lambda row: (row["api_key"], row["project"], row["period"]), reverse=True)
        return [
            Fit(
                kind=_kind(row["project"], row["api_key"]),
                period=row["period"],
                is_short=bool(row["is_short"]),
                window=(row["budget"], row["start"]),
            )
            for row in rows
        ]

    async def renew(self, ids: Sequence[str], *, lease_s: int, unused: Sequence[Hold] = ()) -> None:
        """Renew the reservations of running requests, and give back what is unused."""
        statements = [
            Statement("renew_reservation", {"id": one, "lease_s": lease_s}) for one in ids
        ]
        await self._database.write([*statements, *_given_back(unused)])

    async def release(self, holder: str) -> None:
        """Give back all that a process holds which has ended, and whose requests are all recorded."""
        await self._database.write([Statement("release_holder", {"holder": holder})])

    async def find_owners(self, kind: OwnerKind, name: str) -> list[Owner]:
        """Return the organizations or projects of that id or name, or the keys of that id or prefix."""
        rows = await self._database.fetch_all(_FIND_OWNER[kind], {"name": name})
        return [
            Owner(organization=row["organization"], project=row["project"], api_key=row["api_key"])
            for row in rows
        ]

    async def set(self, owner: Owner, limit: Limit, now: int, by: Actor = COMMAND) -> None:
        """Make a budget, or change the limit of the one that the owner has for that period."""
        params = {**msgspec.structs.asdict(owner), "period": limit.period}
        await self._database.write(
            [
                Statement("set_budget", {**params, "limit": limit.nano_usd, "created": now}),
                audited_budget(by, "budget.set", params, {"limit_nano_usd": limit.nano_usd}),
            ]
        )

    async def remove(self, owner: Owner, period: Period, by: Actor = COMMAND) -> bool:
        """Remove a budget and return whether there was one."""
        params = {**msgspec.structs.asdict(owner), "period": period}
        # In the order in which captures lock them.
        results = await self._database.write(
            [
                audited_budget(by, "budget.removed", params, {}),
                Statement("remove_budget_reservations", params),
                Statement("remove_budget_windows", params),
                Statement("remove_budget", params),
            ]
        )
        return bool(results[-1])

    async def list(self, now: int) -> list[Budget]:
        """Return all budgets: by organization, its own before those of its projects and of their keys."""
        day, month = period_starts(now)
        rows = await self._database.fetch_all("list_budgets", {"day": day, "month": month})
        return [_budget(row) for row in rows]


def _given_back(unused: Sequence[Hold]) -> list[Statement]:
    # In one order everywhere: two transactions never wait for each other.
    return [
        Statement(
            "give_back_rest" if one.is_rest else "give_back_part",
            {"id": one.id, "amount": one.amount_nano_usd},
        )
        if one.is_part
        else Statement("release_reservation", {"id": one.id})
        for one in sorted(unused, key=lambda one: (one.is_part, one.id))
    ]


def _scope(caller: Caller, now: int) -> Params:
    day, month = period_starts(now)
    return {
        "organization": caller.organization,
        "project": caller.project,
        "key": caller.key,
        "day": day,
        "month": month,
    }


def _hold(claim: Claim, rows: Sequence[Row]) -> Hold | None:
    if not rows:
        return None
    windows = tuple((row["budget"], row["start"]) for row in rows)
    return Hold(id=claim.id, amount_nano_usd=claim.amount_nano_usd, windows=windows)


def _kind(project: object, api_key: object) -> OwnerKind:
    if api_key:
        return "key"
    return "project" if project else "organization"


def _budget(row: Row) -> Budget:
    unknown = int(row["unknown_nano_usd"])
    return Budget(
        kind=_kind(row["project"], row["key_id"]),
        organization=row["organization"],
        project=row["project"],
        key_id=row["key_id"],
        key_name=row["key_name"],
        limit=Limit(nano_usd=row["limit_nano_usd"], period=row["period"]),
        spent_nano_usd=int(row["spent_nano_usd"]) + unknown,
        reserved_nano_usd=int(row["reserved_nano_usd"]) - unknown,
        unknown_nano_usd=unknown,
        resets=period_end(row["period"], row["start"]),
    )
