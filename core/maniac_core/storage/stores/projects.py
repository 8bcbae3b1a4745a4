"""Projects in the database: what each has, and the deletion of one with everything in it."""

from __future__ import annotations

import msgspec

from maniac_core.domain.audit import COMMAND, Actor
from maniac_core.domain.ids import now_s
from maniac_core.storage.base import Database, Statement
from maniac_core.storage.stores.audit import audited

# In this order, because of who refers to whom.
_DELETION = (
    "disown_project_objects",
    "delete_project_files",
    "delete_project_items",
    "delete_project_datasets",
    "delete_project_evaluators",
    "delete_project_sub_models",
    "delete_project_containers",
    "delete_project_facet_counts",
    "delete_project_facets",
    "delete_project_bodies",
    "delete_project_attempts",
    "delete_project_completions",
    "delete_project_counts",
    "delete_project_traces",
    "delete_project_trace_containers",
    "delete_project_trace_counts",
    "delete_project_idempotency_keys",
    "delete_project_budgets",
    "delete_project_keys",
    "delete_project",
)


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project, and how much is in it."""

    row: int
    """The storage's own key."""
    id: str
    name: str
    organization_id: str
    organization: str
    created: int
    """Unix seconds."""
    keys: int
    """Those that are neither revoked nor disabled."""
    completions: int
    """Those in lists."""
    containers: int
    datasets: int
    files: int


class ProjectStore:
    """The projects of all organizations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self) -> list[Project]:
        """Return all projects, oldest first."""
        rows = await self._database.fetch_all("list_projects")
        return [
            Project(
                row=row["id"],
                id=row["uid"],
                name=row["name"],
                organization_id=row["organization_id"],
                organization=row["organization"],
                created=row["created"],
                keys=int(row["keys"]),
                completions=int(row["completions"]),
                containers=int(row["containers"]),
                datasets=int(row["datasets"]),
                files=int(row["files"]),
            )
            for row in rows
        ]

    async def delete(self, project: Project, by: Actor = COMMAND) -> bool:
        """Delete a project and everything in it as one transaction; False: it is gone already.

        Its keys are refused everywhere within a second. The sums of usage stay.
        """
        params = {"project": project.row, "now": now_s()}
        details = {"name": project.name, "organization": project.organization}
        statements = [Statement(name, params) for name in _DELETION]
        event = audited(by, "project.deleted", project.id, details)
        *_, deleted, _ = await self._database.write([*statements, event])
        return bool(deleted)
