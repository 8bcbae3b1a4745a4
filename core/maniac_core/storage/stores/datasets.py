"""Datasets: taking a snapshot of the ledger without holding up what is written meanwhile, and reading it back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from maniac_core.domain.datasets import Condition, Dataset, DatasetFilter, DatasetItem
from maniac_core.domain.ids import now_s
from maniac_core.domain.paging import Page
from maniac_core.storage.base import Database, Row, Statement
from maniac_core.storage.stores.completions import completion_of, input_of
from maniac_core.storage.stores.dataset_filters import reads_bodies, where
from maniac_core.storage.text_index import needles

_LAST = 1 << 62
_WINDOW = 5000
"""How many completions one read looks at, so that others get to read between."""
_WINDOW_WITH_BODIES = 1000
_MOST_CANDIDATES = 10_000
"""With more an index of texts helps little."""
_MOST_RECENT = 5000
"""How many completions may not be in the index yet."""
_CHUNK = 250
"""How many items one transaction adds or deletes: a few milliseconds."""
_LEASE_S = 600
"""After how long without a sign of life a dataset that is not complete is a leftover."""
_BATCH_BYTES = 1024 * 1024
"""How much content is read at a time; a single item may be larger."""
_SIZES = 1000

_encode = msgspec.json.Encoder().encode
_decode_filters = msgspec.json.Decoder(tuple[DatasetFilter, ...]).decode
_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode


class DatasetStore:
    """Datasets of all projects; every method sees one project only, and complete datasets only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, project: int, dataset_id: str) -> Dataset | None:
        """Return a dataset, or None."""
        params = {"project": project, "uid": dataset_id}
        row = await self._database.fetch_one("find_dataset", params)
        return None if row is None else _dataset(row)

    async def list(self, project: int, container: int | None, page: Page) -> list[Dataset]:
        """Return a page, newest first, of a container unless it is None; an unknown `after` gives an empty page."""
        created, key = _LAST, _LAST
        if page.after is not None:
            last = await self.get(project, page.after)
            if last is None:
                return []
            created, key = last.created, last.key
        rows = await self._database.fetch_all(
            "list_datasets" if container is None else "list_datasets_of_container",
            {
                "project": project,
                "container": container,
                "created": created,
                "id": key,
                "limit": page.limit,
                "skip": page.skip,
            },
        )
        return [_dataset(row) for row in rows]

    async def count(self, project: int, container: int | None) -> int:
        """Return how many there are, of a container unless it is None."""
        row = await self._database.fetch_one(
            "count_datasets" if container is None else "count_datasets_of_container",
            {"project": project, "container": container},
        )
        return int(row["total"]) if row is not None else 0

    async def create(
        self, project: int, container: int, dataset: Dataset, conditions: Sequence[Condition]
    ) -> None:
        """Take the newest completions of a container that fit all conditions, and show the dataset once it is whole.

        Only what is in the ledger now is looked at. A failure, or a cancelled call, leaves nothing that could be seen;
        its leftovers go with `clean_up`.

        Raises:
            StorageError: nothing was made.
        """
        [[row]] = await self._database.write(
            [Statement("add_dataset", _params(project, container, dataset))]
        )
        snapshot = _Snapshot(self._database, row["id"])
        scope = {"project": project, "container": container}
        await snapshot.take(scope, conditions, dataset.requested_size)
        await snapshot.complete()

    async def delete(self, project: int, dataset_id: str, *also: Statement) -> bool:
        """Delete a dataset with its items; whether there was one. It is out of sight at once.

        `also` belongs to the transaction that puts it out of sight.
        """
        params = {"project": project, "uid": dataset_id, "lease": now_s() + _LEASE_S}
        rows, *_ = await self._database.write([Statement("discard_dataset", params), *also])
        for row in rows:
            await self._delete_items(row["id"])
        return bool(rows)

    async def clean_up(self) -> None:
        """Delete what is left of datasets that were never completed, or not deleted to the end."""
        for row in await self._database.fetch_all("list_leftovers", {"now": now_s()}):
            await self._delete_items(row["id"])

    async def items(self, dataset: Dataset) -> AsyncGenerator[Sequence[DatasetItem], None]:
        """Yield the items in order, in batches of bounded size."""
        position = 0
        while True:
            sizes = await self._database.fetch_all(
                "list_item_sizes",
                {"dataset": dataset.key, "position": position, "limit": _SIZES},
            )
            for first, last in _batches(sizes):
                rows = await self._database.fetch_all(
                    "list_items", {"dataset": dataset.key, "first": first, "last": last}
                )
                yield [_item(row) for row in rows]
            if len(sizes) < _SIZES:
                return
            position = sizes[-1]["position"] + 1

    async def _delete_items(self, key: int) -> None:
        params = {"dataset": key, "limit": _CHUNK}
        lease = {"dataset": key, "lease": now_s() + _LEASE_S}
        while True:
            _, deleted = await self._database.write(
                [Statement("extend_lease", lease), Statement("delete_items", params)]
            )
            if len(deleted) < _CHUNK:
                break
        await self._database.write([Statement("delete_dataset", {"dataset": key})])


class _Snapshot:
    """A dataset that is being filled."""

    def __init__(self, database: Database, key: int) -> None:
        self._database = database
        self._key = key
        self._size = 0
        self._digest = hashlib.sha256()

    async def take(
        self, scope: dict[str, Any], conditions: Sequence[Condition], wanted: int
    ) -> None:
        """Fill it, window by window from the newest completion back."""
        last = await self._database.fetch_one("last_position")
        last_seq = next(iter(last.values())) if last is not None else 0
        scope = {**scope, "last_seq": last_seq}
        if (found := await self._found_by_index(scope, conditions)) is not None:
            await self._add(found[:wanted])
            return
        has_bodies = reads_bodies(conditions)
        name = "match_completions_with_bodies" if has_bodies else "match_completions"
        skip = (_WINDOW_WITH_BODIES if has_bodies else _WINDOW) - 1
        filters = where(conditions)
        start = {"created": _LAST, "seq": _LAST}
        while self._size < wanted:
            end = await self._database.fetch_one(
                "find_window_end", {**scope, **start, "skip": skip}
            )
            rows = await self._database.fetch_all(
                name,
                {
                    **scope,
                    **start,
                    "end_created": -1 if end is None else end["created"],
                    "end_seq": -1 if end is None else end["seq"],
                    "limit": min(wanted - self._size, skip + 1),
                    "filters": filters,
                },
            )
            await self._add([row["seq"] for row in rows])
            if end is None:
                return
            start = {"created": end["created"], "seq": end["seq"]}

    async def _found_by_index(
        self, scope: dict[str, Any], conditions: Sequence[Condition]
    ) -> list[int] | None:
        """Return the positions of all that fit, newest first, where an index of texts leaves few to look at; else None."""
        database = self._database
        condition = database.text_condition(needles(conditions))
        if condition is None:
            return None
        state = await database.fetch_one("text_index_covered")
        covered = 0 if state is None else state["covered"]
        if not covered or scope["last_seq"] - covered > _MOST_RECENT:
            return None
        asked = {"filters": condition, "limit": _MOST_CANDIDATES + 1}
        candidates = await database.fetch_all("find_text_candidates", asked)
        if len(candidates) > _MOST_CANDIDATES:
            return None
        still = await database.fetch_one("text_index_covered")
        if still is None or still["covered"] < covered:
            # Dropped meanwhile: what it named may be a part of what it held.
            return None
        filters = where(conditions)
        recent = {**scope, "covered": covered, "filters": filters}
        found = {row["seq"]: row for row in await database.fetch_all("match_recent", recent)}
        seqs = sorted(row["seq"] for row in candidates)
        for start in range(0, len(seqs), _CHUNK):
            some = _encode(seqs[start : start + _CHUNK]).decode()
            params = {**scope, "seqs": some, "filters": filters}
            rows = await database.fetch_all("match_candidates", params)
            found |= {row["seq"]: row for row in rows}
        return sorted(found, key=lambda seq: (found[seq]["created"], seq), reverse=True)

    async def complete(self) -> None:
        """Show it."""
        params = {
            "dataset": self._key,
            "size": self._size,
            "content_hash": self._digest.digest(),
        }
        await self._database.write([Statement("complete_dataset", params)])

    async def _add(self, seqs: Sequence[int]) -> None:
        for start in range(0, len(seqs), _CHUNK):
            items = {
                "dataset": self._key,
                "position": self._size,
                "seqs": seqs[start : start + _CHUNK],
            }
            lease = {"dataset": self._key, "lease": now_s() + _LEASE_S}
            _, added = await self._database.write(
                [Statement("extend_lease", lease), Statement("add_dataset_items", items)]
            )
            for row in sorted(added, key=lambda row: row["position"]):
                self._digest.update(row["content_hash"])
            self._size += len(added)


def _batches(sizes: Sequence[Row]) -> list[tuple[int, int]]:
    """Return the first and last positions of batches that are not too large."""
    batches: list[tuple[int, int]] = []
    total = 0
    for row in sizes:
        total += row["size_bytes"]
        if batches and total <= _BATCH_BYTES:
            batches[-1] = (batches[-1][0], row["position"])
        else:
            batches.append((row["position"], row["position"]))
            total = row["size_bytes"]
    return batches


def _params(project: int, container: int, dataset: Dataset) -> dict[str, Any]:
    return {
        "uid": dataset.id,
        "project": project,
        "container": container,
        "name": dataset.name,
        "description": dataset.description,
        "requested_size": dataset.requested_size,
        "filters": _encode(dataset.filters).decode(),
        "tags": _encode(dataset.tags).decode(),
        "metadata": None if dataset.metadata is None else dataset.metadata.decode(),
        "lease": now_s() + _LEASE_S,
        "created": dataset.created,
    }


def _dataset(row: Row) -> Dataset:
    metadata = row["metadata"]
    return Dataset(
        key=row["id"],
        id=row["uid"],
        project_id=row["project_id"],
        organization_id=row["organization_id"],
        name=row["name"],
        description=row["description"],
        container=row["container_label"],
        container_id=row["container_id"],
        requested_size=row["requested_size"],
        size=row["size"],
        filters=_decode_filters(row["filters"]),
        tags=_decode_texts(row["tags"]),
        metadata=None if metadata is None else metadata.encode(),
        content_hash=row["content_hash"],
        created=row["created"],
    )


def _item(row: Row) -> DatasetItem:
    return DatasetItem(completion=completion_of(row), input=input_of(row))
