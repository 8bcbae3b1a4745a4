"""`maniac-gateway audit`: who changed keys, budgets or configuration or deleted something, from the database itself."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from maniac_core.cli.database import opened
from maniac_core.cli.settings import load_core
from maniac_core.cli.table import format_table
from maniac_core.domain.audit import AuditEvent
from maniac_core.storage.stores.audit import AuditStore

_HEAD = ("TIME (UTC)", "WHO", "ACTION", "WHAT", "PROJECT", "DETAILS")


def run(arguments: argparse.Namespace) -> int:
    """Print the newest entries, newest first, and return the exit status."""
    events = asyncio.run(_events(arguments))
    if arguments.json:
        sys.stdout.writelines(msgspec.json.encode(event).decode() + "\n" for event in events)
    else:
        sys.stdout.write(_table(events))
    return 0


async def _events(arguments: argparse.Namespace) -> list[AuditEvent]:
    async with opened(load_core(arguments).core) as database:
        return await AuditStore(database).list(limit=arguments.limit)


def _table(events: Sequence[AuditEvent]) -> str:
    rows = [
        (
            datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{event.actor} {event.name}".strip(),
            event.action,
            event.resource,
            event.project or "-",
            # The digests of a configuration are for comparing, not for reading.
            ", ".join(
                f"{key}={_text(value)}" for key, value in event.details.items() if key != "digests"
            ),
        )
        for event in events
    ]
    return format_table([_HEAD, *rows])


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
