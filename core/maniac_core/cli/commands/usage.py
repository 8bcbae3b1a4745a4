"""`maniac-gateway usage`: a usage report from the database itself, whether or not a core runs on it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec

from maniac_core.cli.database import opened
from maniac_core.cli.money import format_usd
from maniac_core.cli.settings import load_core
from maniac_core.cli.table import format_table
from maniac_core.domain.usage import Dimension, UsageGroup, UsageReport, UsageTotals
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.history.usage import MAX_GROUPS, UsageFilter, UsageService
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.router import Router
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.usage import UsageStore

_SUMS = ("REQUESTS", "ERRORS", "PROMPT", "COMPLETION", "SPEND USD", "UNPRICED")


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return the exit status."""
    report = asyncio.run(_report(arguments))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        sys.stdout.write(_table(report, arguments.by))
    return 0


async def _report(arguments: argparse.Namespace) -> UsageReport:
    config = load_core(arguments)
    async with opened(config.core) as database:
        router = Router.bundled(config.providers, Catalogue(config.providers))
        containers = ContainerService(ContainerStore(database), router)
        service = UsageService(UsageStore(database), router, containers)
        caller = await Authenticator(KeyStore(database), None).internal_caller(arguments.project)
        wanted = UsageFilter(
            model=arguments.model,
            container=arguments.container,
            key=arguments.key,
            tag=arguments.tag,
        )
        groups: list[UsageGroup] = []
        while True:
            report = await service.report(
                caller,
                first_day=arguments.first_day,
                last_day=arguments.last_day,
                by=arguments.by,
                wanted=wanted,
                limit=MAX_GROUPS,
                skip=len(groups),
            )
            groups += report.groups
            if not report.groups or len(groups) >= report.total_groups:
                return msgspec.structs.replace(report, groups=groups)


def _table(report: UsageReport, by: Sequence[Dimension]) -> str:
    rows = [(*(name.upper() for name in by), *_SUMS)]
    rows += [(*_names(group, by), *_sums(group.totals)) for group in report.groups]
    if by:
        names = ["total", *[""] * (len(by) - 1)]
        rows.append((*names, *_sums(report.totals)))
    refused = "".join(
        f"refused without a record: {count} ({code})\n" for code, count in report.refused.items()
    )
    unknown = report.totals.unknown
    if unknown:
        # After a core was killed; else nobody needs to know of it.
        refused += f"of unknown outcome, with the most they can have cost: {unknown}\n"
    return format_table(rows) + refused


def _names(group: UsageGroup, by: Sequence[Dimension]) -> list[str]:
    return [str(getattr(group, name)) or "-" for name in by]


def _sums(totals: UsageTotals) -> tuple[str, ...]:
    return (
        str(totals.requests),
        str(totals.errors),
        str(totals.usage.prompt_tokens),
        str(totals.usage.completion_tokens),
        format_usd(totals.spend_nano_usd),
        str(totals.unpriced),
    )
