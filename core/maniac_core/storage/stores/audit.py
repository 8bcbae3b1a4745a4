"""The audit log in the database. An entry is written in the transaction of the change that it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from maniac_core.domain.audit import Action, Actor, AuditEvent
from maniac_core.domain.ids import now_s
from maniac_core.storage.base import Database, Params, Row, Statement


def audited(
    by: Actor, action: Action, resource: str, details: Mapping[str, Any] | None = None
) -> Statement:
    """Return the statement that enters a change in the log; to be written together with the change."""
    return Statement("add_audit_event", _params(by, action, resource, details))


def audited_key(by: Actor, action: Action, key: str, details: Mapping[str, Any]) -> Statement:
    """As `audited`, for the key of that id or of that prefix, if there is exactly one."""
    return Statement("add_audit_event_of_key", _params(by, action, key, details))


def audited_budget(
    by: Actor, action: Action, budget: Params, details: Mapping[str, Any]
) -> Statement:
    """As `audited`, for a budget by its owner and period, if there is such a budget."""
    told = {**details, "period": budget["period"]}
    event = _params(by, action, "", told)
    # The owner's project and key stand beside those of whoever changes the budget.
    event["by"] = event.pop("api_key")
    return Statement("add_audit_event_of_budget", {**event, **budget})


def _params(
    by: Actor, action: Action, resource: str, details: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "time": now_s(),
        "actor": by.kind,
        "api_key": by.key,
        "actor_name": by.name,
        "action": action,
        "resource": resource,
        "project": by.project,
        "details": msgspec.json.encode(details or {}).decode(),
    }


class AuditStore:
    """Reads the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, *, limit: int, before: int | None = None) -> list[AuditEvent]:
        """Return the newest entries, newest first; with `before`, those older than the entry of that id."""
        params = {"limit": limit, "before": before}
        return [_event(row) for row in await self._database.fetch_all("list_audit_events", params)]

    async def latest(self, action: Action) -> AuditEvent | None:
        """Return the newest entry of a kind."""
        row = await self._database.fetch_one("latest_audit_event", {"action": action})
        return None if row is None else _event(row)

    async def add(
        self, by: Actor, action: Action, resource: str, details: Mapping[str, Any]
    ) -> None:
        """Enter what no transaction of ours changes."""
        await self._database.write([audited(by, action, resource, details)])


def _event(row: Row) -> AuditEvent:
    name = row["actor_name"]
    if row["key_name"] is not None:
        name = f"{row['key_name']} ({row['key_prefix']}…)"
    return AuditEvent(
        id=row["id"],
        time=row["time"],
        actor=row["actor"],
        name=name,
        action=row["action"],
        resource=row["resource"],
        project=row["project_name"] or "",
        details=msgspec.json.decode(row["details"]),
    )
