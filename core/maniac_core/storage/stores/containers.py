"""Containers and the models attached to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.containers import Container, SubModel
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, Row, Statement

_LAST = 1 << 62
_MUTABLE = (
    "default_model",  # and best_model_id, which says what it was chosen by
    "default_system_prompt",
    "default_parameters",
    "default_few_shot_messages",
    "system_prompt_prefix",
    "optimized_system_prompt",
    "optimized_parameters",
    "optimized_few_shot_messages",
)
_encode = msgspec.json.Encoder().encode


class ContainerStore:
    """Containers of all projects; every method sees one project only. Deleted containers are found by id alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_by_label(self, project: int, label: str) -> Container | None:
        """Return the live container of that label."""
        row = await self._database.fetch_one(
            "find_container_by_label", {"project": project, "label": label}
        )
        return None if row is None else await self._with_models(row)

    async def find_by_id(self, project: int, container_id: str) -> Container | None:
        """Return the container of that id, deleted or not."""
        row = await self._database.fetch_one(
            "find_container_by_uid", {"project": project, "uid": container_id}
        )
        return None if row is None else await self._with_models(row)

    async def models_of_project(self, project: int) -> list[tuple[str, SubModel]]:
        """Return the labels of the live containers with each of their models."""
        rows = await self._database.fetch_all("list_project_models", {"project": project})
        return [(row["label"], _sub_model(row)) for row in rows]

    async def list(self, project: int, page: Page) -> list[Container]:
        """Return a page of the live containers, newest first; an unknown `after` gives an empty page."""
        created, key = _LAST, _LAST
        if page.after is not None:
            last = await self._database.fetch_one(
                "find_container_by_uid", {"project": project, "uid": page.after}
            )
            if last is None:
                return []
            created, key = last["created"], last["id"]
        rows = await self._database.fetch_all(
            "list_containers",
            {
                "project": project,
                "created": created,
                "id": key,
                "limit": page.limit,
                "skip": page.skip,
            },
        )
        return [await self._with_models(row) for row in rows]

    async def count(self, project: int) -> int:
        """Return how many live containers there are."""
        row = await self._database.fetch_one("count_containers", {"project": project})
        return int(row["total"]) if row is not None else 0

    async def add(self, project: int, container: Container) -> None:
        """Make a container; its key, project and organization ids are the storage's to give.

        Raises:
            ConstraintError: the project has a live container of that label.
        """
        await self._database.write([Statement("add_container", _params(project, container))])

    async def update(self, project: int, container: Container, fields: Collection[str]) -> None:
        """Replace these fields of a live container; others may be changed at the same time."""
        params = _params(project, container)
        params.update({f"sets_{field}": field in fields for field in _MUTABLE})
        await self._database.write([Statement("update_container", params)])

    async def delete(self, project: int, container_id: str, deleted: int, *also: Statement) -> None:
        """Delete a live container softly; `deleted` is Unix seconds. `also` belongs to the transaction."""
        await self._database.write(
            [
                Statement(
                    "delete_container",
                    {"project": project, "uid": container_id, "deleted": deleted},
                ),
                *also,
            ]
        )

    async def add_model(self, container: Container, model: SubModel) -> None:
        """Attach a model.

        Raises:
            ConstraintError: the container has a model of that slug.
        """
        params = {
            "uid": model.id,
            "container": container.key,
            "slug": model.slug,
            "model": model.model,
            "default_parameters": _text(model.default_parameters),
            "default_system_prompt": model.default_system_prompt,
            "created": model.created,
        }
        await self._database.write([Statement("add_container_model", params)])

    async def _with_models(self, row: Row) -> Container:
        models = await self._database.fetch_all("list_container_models", {"container": row["id"]})
        return Container(
            key=row["id"],
            id=row["uid"],
            project_id=row["project_id"],
            organization_id=row["organization_id"],
            label=row["label"],
            api=row["api"],
            initial_model=row["initial_model"],
            default_model=row["default_model"],
            best_model_id=row["best_model_id"],
            default_system_prompt=row["default_system_prompt"],
            default_parameters=_object(row["default_parameters"]),
            default_few_shot_messages=_list(row["default_few_shot"]),
            system_prompt_prefix=row["system_prompt_prefix"],
            optimized_system_prompt=row["optimized_system_prompt"],
            optimized_parameters=_object(row["optimized_parameters"]),
            optimized_few_shot_messages=_list(row["optimized_few_shot"]),
            created=row["created"],
            deleted=row["deleted"],
            sub_models=tuple(_sub_model(model) for model in models),
        )


def _params(project: int, container: Container) -> dict[str, Any]:
    return {
        "uid": container.id,
        "project": project,
        "label": container.label,
        "api": container.api,
        "initial_model": container.initial_model,
        "default_model": container.default_model,
        "best_model_id": container.best_model_id,
        "default_system_prompt": container.default_system_prompt,
        "default_parameters": _text(container.default_parameters),
        "default_few_shot": _text(container.default_few_shot_messages),
        "system_prompt_prefix": container.system_prompt_prefix,
        "optimized_system_prompt": container.optimized_system_prompt,
        "optimized_parameters": _text(container.optimized_parameters),
        "optimized_few_shot": _text(container.optimized_few_shot_messages),
        "created": container.created,
    }


def _sub_model(row: Row) -> SubModel:
    return SubModel(
        id=row["uid"],
        slug=row["slug"],
        model=row["model"],
        default_parameters=_object(row["default_parameters"]),
        default_system_prompt=row["default_system_prompt"],
        created=row["created"],
    )


def _text(value: JsonObject | list[JsonObject] | None) -> str | None:
    return None if value is None else _encode(value).decode()


def _object(text: str | None) -> JsonObject | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


def _list(text: str | None) -> list[JsonObject] | None:
    return None if text is None else msgspec.json.decode(text, type=list[dict[str, Any]])
