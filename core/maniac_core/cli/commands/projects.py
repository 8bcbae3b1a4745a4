"""`maniac-gateway projects`: works on the database itself, whether or not a core runs on it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from maniac_common.config_problems import did_you_mean

from maniac_core.cli.database import opened
from maniac_core.cli.failures import UsageError
from maniac_core.cli.operator import operator
from maniac_core.cli.serving.data_dir import is_locked
from maniac_core.cli.settings import load_core
from maniac_core.cli.table import format_table
from maniac_core.config.core import CoreConfig
from maniac_core.storage.stores.projects import Project, ProjectStore

_HEAD = (
    "ID",
    "NAME",
    "ORGANIZATION",
    "CREATED",
    "KEYS",
    "COMPLETIONS",
    "CONTAINERS",
    "DATASETS",
    "FILES",
)
_MOST_WHILE_SERVING = 50_000
"""Completions that SQLite deletes before the writes of a running core have waited too long."""
_TIMEOUT_S = 3600.0


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked and return the exit status."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    core = load_core(arguments).core
    # A deletion takes as long as it takes.
    async with opened(msgspec.structs.replace(core, database_timeout_s=_TIMEOUT_S)) as database:
        store = ProjectStore(database)
        projects = await store.list()
        if arguments.action == "list":
            sys.stdout.write(_table(projects))
            return 0
        project = find(projects, arguments.project, arguments.organization)
        if not arguments.yes:
            raise UsageError(
                f"this would delete {_described(project)}, permanently; add --yes to do it. The sums of usage and spend stay"
            )
        _require_time(core, project)
        await store.delete(project, operator())
        sys.stdout.write(f"deleted {_described(project)}\n")
    return 0


def find(projects: Sequence[Project], name: str, organization: str | None) -> Project:
    """Return the project of that name or id, in that organization (name or id) if one is given.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = [
        project
        for project in projects
        if name in (project.name, project.id)
        and organization in (None, project.organization, project.organization_id)
    ]
    if not found:
        hint = did_you_mean(name, {project.name for project in projects})
        raise UsageError(f"there is no project {name!r}{hint}")
    if len(found) > 1:
        owners = ", ".join(project.organization for project in found)
        raise UsageError(
            f"several organizations have a project {name!r} ({owners}): add --organization, or name it by its id"
        )
    return found[0]


def _require_time(core: CoreConfig, project: Project) -> None:
    is_file = core.database_url == "sqlite"
    if is_file and project.completions > _MOST_WHILE_SERVING and is_locked(core.data_dir):
        raise UsageError(
            f"project {project.name!r} has {project.completions:,} completions, and requests would wait for their "
            "deletion: stop the gateway first"
        )


def _described(project: Project) -> str:
    counts = {
        "keys": project.keys,
        "completions": project.completions,
        "containers": project.containers,
        "datasets": project.datasets,
        "files": project.files,
    }
    parts = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    return f"project {project.name!r} of organization {project.organization!r} ({project.id}) with {parts}"


def _table(projects: Sequence[Project]) -> str:
    rows = [
        (
            *(project.id, project.name, project.organization),
            datetime.fromtimestamp(project.created, UTC).strftime("%Y-%m-%d %H:%M"),
            *(str(project.keys), str(project.completions), str(project.containers)),
            *(str(project.datasets), str(project.files)),
        )
        for project in projects
    ]
    return format_table([_HEAD, *rows])
