"""Captured completions: writing them, and reading them back by project."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from maniac_core.domain.canonical_json import canonicalize, facet, facets
from maniac_core.domain.chat import Trace, Usage
from maniac_core.domain.completions import (
    Attempt,
    CompletionFilter,
    CompletionRecord,
    StoredCompletion,
    StoredInput,
)
from maniac_core.domain.ids import now_s
from maniac_core.domain.paging import Page
from maniac_core.domain.readable import (
    readable_choices,
    readable_object,
    readable_tags,
    readable_usage,
)
from maniac_core.storage.base import Database, Row, Statement

_LAST = 1 << 62
"""After every time and position."""


class TakenError(Exception):
    """A dataset holds the completion. Its name, unless it is still being made."""

    def __init__(self, dataset: str | None) -> None:
        super().__init__(dataset)
        self.dataset = dataset


class CompletionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A completion with what is known of how it came about."""

    completion: StoredCompletion
    request_id: str
    requested_model: str
    streamed: bool
    content_hash: bytes | None
    """SHA-256 of the canonical request and answer. None when they were not stored."""
    input: bytes | None
    route: bytes | None
    attempts: tuple[Attempt, ...]


class CompletionStore:
    """Completions of all projects; every method but `capture` sees one project only.

    A page or a count by project, model, container or one metadata value costs the same however many there are. With
    several metadata values (or one and a model or container, for a page) the rarest is walked and the others are
    checked row by row.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def capture(self, record: CompletionRecord) -> asyncio.Future[None]:
        """Keep a record; the future is done once it is committed.

        The future raises:
            ConstraintError: the project has a record of that id.
            StorageError: nothing of the record is kept.
        """
        return self._database.capture(record)

    async def get(self, project: int, completion_id: str) -> StoredCompletion | None:
        """Return a listed completion, or None."""
        row = await self._database.fetch_one(
            "find_completion", {"project": project, "id": completion_id}
        )
        return None if row is None else completion_of(row)

    async def existing(self, project: int, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that the project has a record of, listed or not."""
        rows = await self._database.fetch_all("find_known_ids", {"project": project, "ids": ids})
        return {row["id"] for row in rows}

    async def inputs(self, project: int, ids: Sequence[str]) -> dict[str, StoredInput]:
        """Return what the callers of some completions sent."""
        rows = await self._database.fetch_all("find_inputs", {"project": project, "ids": ids})
        return {row["id"]: input_of(row) for row in rows}

    async def explain(self, project: int, completion_id: str) -> CompletionDetail | None:
        """Return any record of the project, stored or not, with its route and attempts, or None."""
        row = await self._database.fetch_one(
            "explain_completion", {"project": project, "id": completion_id}
        )
        if row is None:
            return None
        attempts = await self._database.fetch_all(
            "list_attempts", {"seq": row["seq"], "created": row["created"]}
        )
        return CompletionDetail(
            completion=completion_of(row),
            request_id=row["request_id"],
            requested_model=row["requested_model"],
            streamed=bool(row["streamed"]),
            content_hash=row["content_hash"],
            input=row["input"],
            route=row["route"],
            attempts=tuple(_attempt(attempt) for attempt in attempts),
        )

    async def delete(self, project: int, completion_id: str, *also: Statement) -> bool:
        """Delete what was asked and answered, for good; whether there was such a listed completion.

        The ledger keeps its numbers, and all sums stay. `also` belongs to the transaction.

        Raises:
            TakenError: a dataset holds it.
            StorageError: nothing was deleted.
        """
        key = {"project": project, "id": completion_id}
        row = await self._database.fetch_one("find_deletable", key)
        if row is None:
            return False
        if row["dataset"] is not None:
            raise TakenError(row["dataset"])
        found = facets(project, row["metadata"].encode()) if row["metadata"] is not None else []
        at = {"seq": row["seq"], "created": row["created"]}
        *_, [*forgotten] = await self._database.write(
            [
                *also,
                Statement("uncount_completion", at),
                Statement("uncount_facets", {**at, "facets": found}),
                Statement("delete_facets", {**at, "facets": found}),
                Statement("delete_body", at),
                Statement("forget_attempts", at),
                Statement("forget_completion", {**at, "now": now_s()}),
            ]
        )
        if forgotten:
            return True
        # Something else came first: another deletion, or a dataset that takes it.
        row = await self._database.fetch_one("find_deletable", key)
        if row is None:
            return False
        raise TakenError(row["dataset"])

    async def list(
        self, project: int, selection: CompletionFilter, page: Page
    ) -> list[StoredCompletion]:
        """Return a page of the listed completions: newest first by time of creation, or else in the order of commits.

        Ascending, what comes after the last item of a page is all that is committed later, and nothing else: who
        follows the list misses nothing and sees nothing twice.
        An `after` that is not a listed completion of the project gives an empty page.
        """
        created, seq = (-1, -1) if page.ascending else (_LAST, _LAST)
        settled = await self._database.settled_position() if page.ascending else _LAST
        if page.after is not None:
            position = await self._database.fetch_one(
                "find_position", {"project": project, "id": page.after}
            )
            if position is None:
                return []
            created, seq = position["created"], position["seq"]
        name, params = await self._search(project, selection)
        order, last = (
            ("oldest", {"settled": settled}) if page.ascending else ("newest", {"created": created})
        )
        rows = await self._database.fetch_all(
            f"{name}_{order}",
            {**params, **last, "seq": seq, "limit": page.limit, "skip": page.skip},
        )
        return [completion_of(row) for row in rows]

    async def count(self, project: int, selection: CompletionFilter) -> int:
        """Return how many listed completions match."""
        wanted = _facets(project, selection)
        scope = {"model": selection.model, "container": selection.container}
        if len(wanted) == 0:
            return await self._total("count_completions", {**scope, "project": project})
        if len(wanted) == 1:
            return await self._total("count_facet", {**scope, "facet": wanted[0]})
        rarest, total = await self._rarest(wanted, scope)
        if total == 0:
            return 0
        others = [other for other in wanted if other != rarest]
        return await self._total("count_facets", {**scope, "facet": rarest, "facets": others})

    async def _search(
        self, project: int, selection: CompletionFilter
    ) -> tuple[str, dict[str, Any]]:
        """Return the statement that walks the fewest rows, without its order, and its parameters."""
        wanted = _facets(project, selection)
        scope = {"model": selection.model, "container": selection.container}
        parts = [f"_{name}" for name in ("container", "model") if scope[name] is not None]
        by_column = f"list{'_by' if parts else ''}{''.join(parts)}"
        params = {**scope, "project": project}
        if not wanted:
            return by_column, {**params, "facets": ()}
        rarest, total = await self._rarest(wanted, {"model": None, "container": None})
        if parts and await self._total("count_completions", params) < total:
            return by_column, {**params, "facets": wanted}
        others = [other for other in wanted if other != rarest]
        return "list_by_facet", {**params, "facet": rarest, "facets": others}

    async def _rarest(self, facets: Sequence[bytes], scope: dict[str, Any]) -> tuple[bytes, int]:
        rows = await self._database.fetch_all("count_each_facet", {**scope, "facets": facets})
        totals = {row["facet"]: int(row["total"]) for row in rows}
        rarest = min(facets, key=lambda facet: totals.get(facet, 0))
        return rarest, totals.get(rarest, 0)

    async def _total(self, name: str, params: dict[str, Any]) -> int:
        row = await self._database.fetch_one(name, params)
        return int(row["total"]) if row is not None else 0


def _facets(project: int, selection: CompletionFilter) -> list[bytes]:
    found = (facet(project, key, canonicalize(value)) for key, value in selection.metadata)
    return list(dict.fromkeys(found))


def completion_of(row: Row) -> StoredCompletion:
    """Return the completion that a row of `completion_columns` holds; what of it cannot be shown is named."""
    usage, tags = readable_usage(_usage(row)), readable_tags(row["tags"])
    metadata, output = readable_object(row["metadata"]), readable_choices(row["output"])
    trace = trace_of(row)
    is_lost = {
        "choices": output is None and row["output"] is not None,
        "metadata": metadata is None and row["metadata"] is not None,
        "tags": tags is None,
        "trace": row["trace_metadata"] is not None and (trace is None or trace.metadata is None),
        "usage": usage is None,
    }
    return StoredCompletion(
        id=row["id"],
        created=row["created"],
        status=row["status"],
        model=row["model"],
        provider=row["provider"],
        container_label=row["container_label"],
        model_id=row["model_id"],
        finish_reason=row["finish_reason"],
        usage=usage or Usage(),
        usage_source="none" if usage is None else row["usage_source"],
        spend_nano_usd=row["spend_nano_usd"],
        time_to_first_token_us=row["time_to_first_token_us"],
        latency_us=row["latency_us"],
        tags=tags or (),
        metadata=metadata,
        trace=trace,
        output=output,
        error_reason=row["error_reason"],
        error_message=row["error_message"],
        replay_of=row["replay_of"],
        unreadable=tuple(name for name, lost in is_lost.items() if lost),
    )


def input_of(row: Row) -> StoredInput:
    """Return the request that a row of `input_columns` holds."""
    return StoredInput(
        requested_model=row["requested_model"],
        streamed=bool(row["streamed"]),
        body=row["input"],
        route=row["route"],
    )


def _usage(row: Row) -> Usage:
    return Usage(**{name: row[name] for name in Usage.__struct_fields__})


def trace_of(row: Row) -> Trace | None:
    """Return the context that a row of the ledger brought, or None; without metadata that cannot be shown."""
    if row["trace_id"] is None:
        return None
    metadata = readable_object(row["trace_metadata"])
    return Trace(
        id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        name=row["trace_name"],
        source=row["trace_source"],
        metadata=None if metadata is None else msgspec.Raw(metadata),
    )


def _attempt(row: Row) -> Attempt:
    return Attempt(
        number=row["number"],
        provider=row["provider"],
        model=row["model"],
        started_us=row["started_us"],
        latency_us=row["latency_us"],
        time_to_first_token_us=row["time_to_first_token_us"],
        outcome=row["outcome"],
        http_status=row["http_status"],
        error_reason=row["error_reason"],
        error_message=row["error_message"],
        usage=readable_usage(_usage(row)) if row["input_tokens"] is not None else None,
        spend_nano_usd=row["spend_nano_usd"],
    )
