"""The audit log: who changed keys, budgets or configuration or deleted something, what, and when."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from maniac_core.domain.callers import Caller

ActorKind = Literal["key", "internal", "command", "core"]
Action = Literal[
    "key.created",
    "key.revoked",
    "budget.set",
    "budget.removed",
    "project.deleted",
    "completion.deleted",
    "container.deleted",
    "dataset.deleted",
    "evaluator.deleted",
    "file.deleted",
    "configuration.changed",
]


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The actor."""

    kind: ActorKind
    """`key`: the holder of an API key; `internal`: the internal service key; `command`: a command on the machine."""
    key: int | None = None
    """The storage's own key of the API key."""
    project: int | None = None
    """The storage's own key of the project that the caller acts in."""
    name: str = ""
    """Of a command, the user who gave it."""


COMMAND = Actor(kind="command")
"""A command whose user is not known."""


def actor(caller: Caller) -> Actor:
    """Return a caller as an actor."""
    kind: ActorKind = "internal" if caller.key is None else "key"
    return Actor(kind=kind, key=caller.key, project=caller.project)


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log, as it is read."""

    id: int
    time: int
    """Unix seconds."""
    actor: ActorKind
    name: str
    """Of a key, its name and prefix; of a command, its user; else empty."""
    action: str
    resource: str
    """Id or name of the thing that was changed."""
    project: str
    """Name of its project; empty: of none."""
    details: dict[str, Any]
