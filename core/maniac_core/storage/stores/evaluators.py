"""Evaluators."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from maniac_core.domain.evaluators import Code, Evaluator, Judge
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, Row, Statement

_LAST = 1 << 62
_MUTABLE = (
    "name",
    "description",
    "container",
    "mode",
    "api",
    "pass_threshold",
    "metadata",
    "model",
    "prompt",
    "inference_parameters",
    "source",
    "requirements",
)
_encode = msgspec.json.Encoder().encode
_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode


class EvaluatorStore:
    """Evaluators of all projects; every method sees one project only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, project: int, name: str) -> Evaluator | None:
        """Return the evaluator of that id or name; an id wins over a name."""
        row = await self._database.fetch_one(
            "find_evaluator", {"project": project, "evaluator": name}
        )
        return None if row is None else _evaluator(row)

    async def list(self, project: int, container: int | None, page: Page) -> list[Evaluator]:
        """Return a page, newest first, of a container unless it is None; an unknown `after` gives an empty page."""
        created, key = _LAST, _LAST
        if page.after is not None:
            last = await self._database.fetch_one(
                "find_evaluator", {"project": project, "evaluator": page.after}
            )
            if last is None:
                return []
            created, key = last["created"], last["id"]
        rows = await self._database.fetch_all(
            "list_evaluators" if container is None else "list_evaluators_of_container",
            {
                "project": project,
                "container": container,
                "created": created,
                "id": key,
                "limit": page.limit,
                "skip": page.skip,
            },
        )
        return [_evaluator(row) for row in rows]

    async def count(self, project: int, container: int | None) -> int:
        """Return how many there are, of a container unless it is None."""
        row = await self._database.fetch_one(
            "count_evaluators" if container is None else "count_evaluators_of_container",
            {"project": project, "container": container},
        )
        return int(row["total"]) if row is not None else 0

    async def add(self, project: int, evaluator: Evaluator) -> None:
        """Make an evaluator.

        Raises:
            ConstraintError: the project has one of that name.
        """
        await self._database.write([Statement("add_evaluator", _params(project, evaluator))])

    async def update(self, project: int, evaluator: Evaluator, fields: Collection[str]) -> None:
        """Replace these fields of an evaluator; others may be changed at the same time.

        Raises:
            ConstraintError: the project has another one of that name.
        """
        params = _params(project, evaluator)
        params.update({f"sets_{field}": field in fields for field in _MUTABLE})
        await self._database.write([Statement("update_evaluator", params)])

    async def delete(self, project: int, evaluator_id: str, *also: Statement) -> None:
        """Delete an evaluator. `also` belongs to the transaction."""
        params = {"project": project, "uid": evaluator_id}
        await self._database.write([Statement("delete_evaluator", params), *also])


def _params(project: int, evaluator: Evaluator) -> dict[str, Any]:
    rule = evaluator.rule
    judge = rule if isinstance(rule, Judge) else None
    code = rule if isinstance(rule, Code) else None
    return {
        "uid": evaluator.id,
        "project": project,
        "name": evaluator.name,
        "description": evaluator.description,
        "container": evaluator.container_key,
        "mode": evaluator.mode,
        "api": evaluator.api,
        "pass_threshold": evaluator.pass_threshold,
        "metadata": _text(evaluator.metadata),
        "kind": "judge" if judge else "code",
        "model": judge and judge.model,
        "prompt": judge and judge.prompt,
        "inference_parameters": judge and _text(judge.inference_parameters),
        "source": code and code.source,
        "requirements": code and _encode(code.requirements).decode(),
        "created": evaluator.created,
    }


def _evaluator(row: Row) -> Evaluator:
    rule: Judge | Code
    if row["kind"] == "judge":
        rule = Judge(
            model=row["model"],
            prompt=row["prompt"],
            inference_parameters=_bytes(row["inference_parameters"]),
        )
    else:
        rule = Code(source=row["source"], requirements=_decode_texts(row["requirements"]))
    return Evaluator(
        id=row["uid"],
        project_id=row["project_id"],
        name=row["name"],
        description=row["description"],
        container=row["container_label"],
        container_id=row["container_id"],
        container_key=row["container"],
        mode=row["mode"],
        api=row["api"],
        pass_threshold=row["pass_threshold"],
        metadata=_bytes(row["metadata"]),
        rule=rule,
        created=row["created"],
    )


def _text(document: bytes | None) -> str | None:
    return None if document is None else document.decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
