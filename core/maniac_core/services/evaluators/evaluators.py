"""Evaluators: stored and validated, within the caller's project."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from maniac_core.domain.audit import actor
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.evaluators import Code, Evaluator, Judge
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.evaluators.rules import check_evaluator, invalid
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.planner import Planner
from maniac_core.storage.base import ConstraintError
from maniac_core.storage.stores.audit import audited
from maniac_core.storage.stores.evaluators import EvaluatorStore


class EvaluatorService:
    """Makes, reads, changes and deletes evaluators; it never runs one."""

    def __init__(
        self, store: EvaluatorStore, containers: ContainerService, planner: Planner
    ) -> None:
        self._store = store
        self._containers = containers
        self._planner = planner

    async def get(self, caller: Caller, name: str) -> Evaluator:
        """Return the evaluator of an id or name; an id wins over a name.

        Raises:
            GatewayError: EVALUATOR_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._store.find(caller.project, name)
        if found is None:
            raise GatewayError(
                Reason.ERROR_REASON_EVALUATOR_NOT_FOUND,
                f"There is no evaluator {name!r}.",
                param="evaluator",
            )
        return found

    async def list(self, caller: Caller, container: str, page: Page) -> tuple[list[Evaluator], int]:
        """Return a page, newest first, and the count of all; of a container unless it is empty.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        route = await self._containers.lookup_any(caller, container) if container else None
        if container and route is None:
            # List endpoints know no 404.
            return [], 0
        key = None if route is None else route.key
        return (
            await self._store.list(caller.project, key, page),
            await self._store.count(caller.project, key),
        )

    async def create(self, caller: Caller, wanted: Evaluator) -> Evaluator:
        """Make an evaluator from the values of `wanted`; its id and time are made here, and its name if it has none.

        Raises:
            GatewayError: VALIDATION_ERROR; CONTAINER_NOT_FOUND; MODEL_NOT_FOUND; EVALUATOR_EXISTS;
                DEPENDENCY_UNAVAILABLE.
        """
        evaluator = msgspec.structs.replace(
            wanted, id=uuid_id(), name=wanted.name or _made_up_name(wanted), created=now_s()
        )
        check_evaluator(evaluator)
        evaluator = await self._resolved(caller, evaluator, {"container", "model"})
        try:
            await self._store.add(caller.project, evaluator)
        except ConstraintError as err:
            raise _name_taken(evaluator) from err
        return await self.get(caller, evaluator.id)

    async def update(self, caller: Caller, name: str, changes: dict[str, Any]) -> Evaluator:
        """Replace fields of an evaluator or of its rule by their domain names; None clears one that may be absent.

        Raises:
            GatewayError: EVALUATOR_NOT_FOUND, and those of `create`.
        """
        evaluator = await self.get(caller, name)
        if not changes:
            return evaluator
        changed = _changed(evaluator, changes)
        check_evaluator(changed)
        changed = await self._resolved(caller, changed, changes.keys() & {"container", "model"})
        try:
            await self._store.update(caller.project, changed, changes.keys())
        except ConstraintError as err:
            raise _name_taken(changed) from err
        return await self.get(caller, evaluator.id)

    async def delete(self, caller: Caller, name: str) -> Evaluator:
        """Delete an evaluator and return it.

        Raises:
            GatewayError: EVALUATOR_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        evaluator = await self.get(caller, name)
        event = audited(actor(caller), "evaluator.deleted", evaluator.id, {"name": evaluator.name})
        await self._store.delete(caller.project, evaluator.id, event)
        return evaluator

    async def _resolved(self, caller: Caller, evaluator: Evaluator, fields: set[str]) -> Evaluator:
        """Return the evaluator with the container's key and the model's own slug, for those of the fields that are named."""
        if "container" in fields:
            container = None
            if evaluator.container:
                container = await self._containers.get(caller, evaluator.container)
            evaluator = msgspec.structs.replace(
                evaluator, container_key=None if container is None else container.key
            )
        rule = evaluator.rule
        if "model" in fields and isinstance(rule, Judge):
            _, route, _ = await self._planner.resolve(caller, rule.model)
            # A route stays one: what serves it may change.
            model = self._planner.canonical(rule.model) if route is None else rule.model
            evaluator = msgspec.structs.replace(
                evaluator, rule=msgspec.structs.replace(rule, model=model)
            )
        return evaluator


def _changed(evaluator: Evaluator, changes: dict[str, Any]) -> Evaluator:
    """Return the evaluator with the changes, unchecked but for the kind that they are for."""
    kind = type(evaluator.rule)
    other = Code if kind is Judge else Judge
    foreign = [field for field in other.__struct_fields__ if field in changes]
    if foreign:
        message = f"does not belong to a {'judge' if kind is Judge else 'code'} evaluator"
        raise invalid(
            *(Violation(("body", field), message, "extra_forbidden") for field in foreign)
        )
    own = {field: changes[field] for field in kind.__struct_fields__ if field in changes}
    common = {field: value for field, value in changes.items() if field not in own}
    rule = msgspec.structs.replace(evaluator.rule, **own)
    return msgspec.structs.replace(evaluator, **common, rule=rule)


def _made_up_name(evaluator: Evaluator) -> str:
    kind = "judge" if isinstance(evaluator.rule, Judge) else "code"
    return f"{kind}-{os.urandom(6).hex()}"


def _name_taken(evaluator: Evaluator) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_EVALUATOR_EXISTS,
        f"The project already has an evaluator {evaluator.name!r}.",
        param="name",
    )
