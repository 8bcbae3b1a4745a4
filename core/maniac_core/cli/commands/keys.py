"""`maniac-gateway keys`: works on the database itself, whether or not a core runs on it."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from maniac_common.config_problems import did_you_mean

from maniac_core.cli.database import opened
from maniac_core.cli.failures import UsageError
from maniac_core.cli.money import format_usd, parse_usd
from maniac_core.cli.operator import operator
from maniac_core.cli.settings import load_core
from maniac_core.cli.table import format_table
from maniac_core.domain.budgets import Limit
from maniac_core.domain.callers import ApiKey
from maniac_core.domain.scopes import DEFAULT_SCOPES
from maniac_core.services.access.keys import KeyService
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.projects import ProjectStore

_DEFAULT = "default"
_SPAN = re.compile(r"(\d+)([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked and return the exit status."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with opened(load_core(arguments).core) as database:
        if arguments.action == "create" and not arguments.create_project:
            await _require_project(ProjectStore(database), arguments)
        service = KeyService(KeyStore(database))
        match arguments.action:
            case "create":
                await _create(service, arguments)
            case "list":
                _print_table(await service.list(arguments.project))
            case "revoke":
                # Lists show a prefix with the mark that more follows.
                key = await service.revoke(arguments.id.removesuffix("…"), operator())
                sys.stdout.write(f"revoked {key.id} ({key.name}, {key.prefix}…)\n")
    return 0


async def _require_project(store: ProjectStore, arguments: argparse.Namespace) -> None:
    """Refuse a project that is not there: a slip in its name would make a new one. The first is made in any case."""
    name, organization = arguments.project, arguments.organization
    if (name, organization) == (_DEFAULT, _DEFAULT):
        return
    projects = await store.list()
    if any(name == project.id for project in projects):
        return
    names = [
        project.name
        for project in projects
        if organization in (project.organization, project.organization_id)
    ]
    if name not in names:
        hint = did_you_mean(name, names)
        separator = "" if hint.endswith("?") else ";"
        raise UsageError(
            f"organization {organization!r} has no project {name!r}{hint}{separator} --create-project makes it"
        )


async def _create(service: KeyService, arguments: argparse.Namespace) -> None:
    expires = None if arguments.expires is None else parse_expiry(arguments.expires, time.time())
    budget = None
    if arguments.budget_usd is not None:
        budget = Limit(nano_usd=parse_usd(arguments.budget_usd), period=arguments.per)
    key, secret = await service.create(
        arguments.name,
        project=arguments.project,
        organization=arguments.organization,
        expires=expires,
        rate_limit=arguments.rate,
        token_limit=arguments.tokens,
        budget=budget,
        scopes=arguments.scopes or DEFAULT_SCOPES,
        by=operator(),
    )
    # The secret alone on standard output: KEY=$(maniac-gateway keys create) works.
    sys.stderr.write(
        f"key {key.id} ({key.name}) of project {key.project}, organization {key.organization}; "
        f"expires: {_date(key.expires) or 'never'}{_limits(key, budget)}. It cannot be shown again:\n"
    )
    sys.stdout.write(f"{secret}\n")


def _limits(key: ApiKey, budget: Limit | None) -> str:
    limits = []
    if key.rate_limit is not None:
        limits.append(f"requests per window: {key.rate_limit}")
    if key.token_limit is not None:
        limits.append(f"tokens per window: {key.token_limit}")
    if budget is not None:
        limits.append(f"USD per {budget.period}: {format_usd(budget.nano_usd)}")
    return "".join(f"; {limit}" for limit in limits)


def parse_expiry(text: str, now: float) -> int:
    """Return Unix seconds of a date, a time, or a span from now such as 30d; without an offset, UTC.

    Raises:
        UsageError: it is not one of these, or is not in the future.
    """
    span = _SPAN.fullmatch(text)
    if span:
        when = now + int(span[1]) * _SECONDS[span[2]]
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"--expires {text}: not a date (2027-01-31), a time or a span (30d, 12h)"
            ) from None
        when = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if when <= now:
        raise UsageError(f"--expires {text}: is not in the future")
    return int(when)


def _print_table(keys: Sequence[ApiKey]) -> None:
    head = (
        *("ID", "PREFIX", "NAME", "PROJECT", "ORGANIZATION", "CREATED", "EXPIRES"),
        *("SCOPES", "RATE", "TOKENS", "STATE"),
    )
    rows = [
        head,
        *(
            (
                *(key.id, key.prefix + "…", key.name, key.project, key.organization),
                *(_date(key.created), _date(key.expires) or "never"),
                ",".join(sorted(key.scopes)),
                *(str(key.rate_limit or "-"), str(key.token_limit or "-")),
                _state(key, time.time()),
            )
            for key in keys
        ),
    ]
    sys.stdout.write(format_table(rows))


def _state(key: ApiKey, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    if key.disabled:
        return "disabled"
    if key.expires is not None and key.expires <= now:
        return "expired"
    return "active"


def _date(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
