"""`maniac-gateway budgets`: works on the database itself, whether or not a core runs on it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from maniac_core.cli.database import opened
from maniac_core.cli.money import format_usd, parse_usd
from maniac_core.cli.operator import operator
from maniac_core.cli.settings import load_core
from maniac_core.cli.table import format_table
from maniac_core.domain.budgets import Budget, Limit
from maniac_core.services.billing.budgets import BudgetService
from maniac_core.storage.stores.budgets import BudgetStore

_HEAD = (
    *("ORGANIZATION", "BUDGET OF", "PERIOD"),
    *("LIMIT USD", "SPENT", "RESERVED", "LEFT", "RESETS"),
)


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked and return the exit status."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    limit = parse_usd(arguments.usd) if arguments.action == "set" else 0
    if arguments.action != "list" and arguments.kind == "key":
        # Lists show a prefix with the mark that more follows.
        arguments.name = arguments.name.removesuffix("…")
    async with opened(load_core(arguments).core) as database:
        service = BudgetService(BudgetStore(database))
        match arguments.action:
            case "set":
                await service.set(
                    arguments.kind,
                    arguments.name,
                    Limit(nano_usd=limit, period=arguments.per),
                    operator(),
                )
                sys.stdout.write(
                    f"{arguments.kind} {arguments.name} may spend {format_usd(limit)} USD"
                    f" {_per(arguments.per)}\n"
                )
            case "remove":
                if not await service.remove(
                    arguments.kind, arguments.name, arguments.per, operator()
                ):
                    sys.stderr.write(
                        f"maniac-gateway: {arguments.kind} {arguments.name} has no budget"
                        f" {_per(arguments.per)}\n"
                    )
                    return 1
                sys.stdout.write("removed\n")
            case "list":
                sys.stdout.write(_table(await service.list()))
    return 0


def _per(period: str) -> str:
    return "in total" if period == "total" else f"per {period}"


def _table(budgets: Sequence[Budget]) -> str:
    rows: list[tuple[str, ...]] = [
        (
            budget.organization,
            _owner(budget),
            budget.limit.period,
            format_usd(budget.limit.nano_usd),
            format_usd(budget.spent_nano_usd),
            format_usd(budget.reserved_nano_usd),
            format_usd(budget.limit.nano_usd - budget.spent_nano_usd - budget.reserved_nano_usd),
            "never"
            if budget.resets is None
            else datetime.fromtimestamp(budget.resets, UTC).strftime("%Y-%m-%d"),
        )
        for budget in budgets
    ]
    head: tuple[str, ...] = _HEAD
    if any(budget.unknown_nano_usd for budget in budgets):
        # After a core was killed; else nobody needs to know of it.
        head = (*head, "OF SPENT UNKNOWN")
        rows = [
            (*row, format_usd(budget.unknown_nano_usd))
            for row, budget in zip(rows, budgets, strict=True)
        ]
    return format_table([head, *rows])


def _owner(budget: Budget) -> str:
    match budget.kind:
        case "organization":
            return "all projects"
        case "project":
            return f"project {budget.project}"
        case "key":
            return f"key {budget.key_id} ({budget.key_name})"
