"""Datasets: immutable snapshots of a container's completions, within the caller's project."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import msgspec

from maniac_core.domain.audit import actor
from maniac_core.domain.callers import Caller
from maniac_core.domain.datasets import Dataset, DatasetItem
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.datasets.filters import conditions_of, kept_form
from maniac_core.services.history.export import (
    PAUSE,
    ExportFormat,
    fine_tuning_line,
    record_json,
    request_json,
)
from maniac_core.services.history.pacing import Pace
from maniac_core.services.routing.containers import ContainerService
from maniac_core.storage.stores.audit import audited
from maniac_core.storage.stores.datasets import DatasetStore

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME = 128
_LINES = 5
"""Lines that are made in one go."""
_MAX_SIZE = (1 << 63) - 1
_encode = msgspec.json.Encoder().encode


class DatasetService:
    """Takes, reads, exports and deletes datasets. One is taken at a time: each reads much."""

    def __init__(
        self, store: DatasetStore, containers: ContainerService, *, searches_bodies: bool = True
    ) -> None:
        """`searches_bodies`: whether the database can look into what was asked and answered."""
        self._searches_bodies = searches_bodies
        self._store = store
        self._containers = containers
        self._turn = asyncio.Lock()

    async def get(self, caller: Caller, dataset_id: str) -> Dataset:
        """Return a dataset.

        Raises:
            GatewayError: DATASET_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._store.get(caller.project, dataset_id)
        if found is None:
            raise _not_found(dataset_id)
        return found

    async def list(self, caller: Caller, container: str, page: Page) -> tuple[list[Dataset], int]:
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

    async def create(self, caller: Caller, wanted: Dataset) -> Dataset:
        """Take the newest completions of a container that fit all filters; returns once the dataset is complete.

        Raises:
            GatewayError: VALIDATION_ERROR; CONTAINER_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        _check(wanted)
        container = await self._containers.get(caller, wanted.container)
        conditions, violations = conditions_of(
            wanted.filters, container, searches_bodies=self._searches_bodies
        )
        if violations:
            raise _invalid(*violations)
        filters = tuple(kept_form(given) for given in wanted.filters)
        dataset = msgspec.structs.replace(wanted, id=uuid_id(), filters=filters, created=now_s())
        async with self._turn:
            await self._store.clean_up()
            await self._store.create(caller.project, container.key, dataset, conditions)
        return await self.get(caller, dataset.id)

    async def delete(self, caller: Caller, dataset_id: str) -> None:
        """Delete a dataset.

        Raises:
            GatewayError: DATASET_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        dataset = await self.get(caller, dataset_id)
        event = audited(
            actor(caller),
            "dataset.deleted",
            dataset_id,
            {"name": dataset.name, "size": dataset.size},
        )
        was_there = await self._store.delete(caller.project, dataset_id, event)
        if not was_there:
            raise _not_found(dataset_id)

    async def lines(self, dataset: Dataset, form: ExportFormat) -> AsyncGenerator[bytes, None]:
        """Yield the items in order, a line each, with its line end.

        Raises:
            GatewayError: DATASET_NOT_FOUND, it was deleted meanwhile and some are missing; DEPENDENCY_UNAVAILABLE.
        """
        batches = self._store.items(dataset)
        missing = dataset.size
        try:
            pace = Pace(PAUSE)
            async for items in batches:
                missing -= len(items)
                for start in range(0, len(items), _LINES):
                    lines = [_line(item, form) for item in items[start : start + _LINES]]
                    await pace.rest()
                    for line in lines:
                        if line is not None:
                            yield line + b"\n"
                    pace.begin()
        finally:
            await batches.aclose()
        if missing:
            # Part of a dataset must not look like the whole.
            raise _not_found(dataset.id)


def _line(item: DatasetItem, form: ExportFormat) -> bytes | None:
    completion = item.completion
    if form == "fine_tuning":
        return fine_tuning_line(completion, item.input.body)
    return _encode(
        {
            "id": completion.id,
            "created": completion.created,
            "model": completion.model,
            "tags": completion.tags,
            "metadata": None if completion.metadata is None else msgspec.Raw(completion.metadata),
            "input": request_json(item.input),
            "output": record_json(completion, item.input),
        }
    )


def _check(wanted: Dataset) -> None:
    violations: list[Violation] = []
    name = wanted.name
    if not 1 <= len(name) <= _MAX_NAME:
        message = f"must have 1 to {_MAX_NAME} characters"
        violations.append(Violation(("body", "name"), message, "value_error"))
    elif _CONTROL.search(name):
        message = "must not have control characters"
        violations.append(Violation(("body", "name"), message, "value_error"))
    if not wanted.container:
        violations.append(Violation(("body", "container"), "is required", "missing"))
    if not 1 <= wanted.requested_size <= _MAX_SIZE:
        violations.append(Violation(("body", "size"), "must be 1 or more", "greater_than_equal"))
    if violations:
        raise _invalid(*violations)


def _invalid(*violations: Violation) -> GatewayError:
    first = violations[0]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.loc[1:])
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{param[1:]} {first.message}.",
        param=param[1:],
        violations=violations,
    )


def _not_found(dataset_id: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_DATASET_NOT_FOUND,
        f"There is no dataset {dataset_id!r}.",
        param="id",
    )
