"""Captured completions as the caller reads them back."""

from __future__ import annotations

import msgspec

from maniac_core.domain.audit import actor
from maniac_core.domain.callers import Caller
from maniac_core.domain.canonical_json import canonical_json
from maniac_core.domain.completions import CompletionFilter, StoredCompletion
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.paging import Page
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.router import Router
from maniac_core.storage.stores.audit import audited
from maniac_core.storage.stores.completions import CompletionDetail, CompletionStore, TakenError

MAX_METADATA_KEYS = 32
"""Per filter: each key is looked up separately, and checked for every candidate."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class StoredCompletions:
    """Reads within the caller's project."""

    def __init__(
        self, store: CompletionStore, router: Router, containers: ContainerService
    ) -> None:
        self._store = store
        self._router = router
        self._containers = containers

    async def get(self, caller: Caller, completion_id: str) -> StoredCompletion:
        """Return one.

        Raises:
            GatewayError: COMPLETION_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._store.get(caller.project, completion_id)
        if found is None:
            raise _not_found(completion_id)
        return found

    async def explain(self, caller: Caller, completion_id: str) -> CompletionDetail:
        """Return how a request of the project came about, stored or not.

        Raises:
            GatewayError: COMPLETION_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        found = await self._store.explain(caller.project, completion_id)
        if found is None:
            raise _not_found(completion_id)
        return found

    async def with_request(self, caller: Caller, completion_id: str) -> CompletionDetail:
        """Return one that is listed, with its request and route.

        Raises:
            GatewayError: COMPLETION_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        await self.get(caller, completion_id)
        return await self.explain(caller, completion_id)

    async def delete(self, caller: Caller, completion_id: str) -> None:
        """Delete what was asked and answered, for good; counts, usage and spend stay.

        Raises:
            GatewayError: COMPLETION_NOT_FOUND; CONFLICT while a dataset holds it; DEPENDENCY_UNAVAILABLE.
        """
        event = audited(actor(caller), "completion.deleted", completion_id)
        try:
            was_there = await self._store.delete(caller.project, completion_id, event)
        except TakenError as err:
            holder = "A dataset" if err.dataset is None else f"The dataset {err.dataset!r}"
            raise GatewayError(
                Reason.ERROR_REASON_CONFLICT,
                f"{holder} holds the completion {completion_id!r}; delete that dataset first.",
                param="id",
            ) from err
        if not was_there:
            raise _not_found(completion_id)

    async def list(
        self, caller: Caller, *, model: str, container: str, metadata_json: bytes, page: Page
    ) -> tuple[list[StoredCompletion], int]:
        """Return a page and the count of all matches. Empty filters do not filter.

        Raises:
            GatewayError: VALIDATION_ERROR for metadata that is not an object; DEPENDENCY_UNAVAILABLE.
        """
        wanted = await self.select(
            caller, model=model, container=container, metadata_json=metadata_json
        )
        if wanted is None:
            # List endpoints know no 404.
            return [], 0
        return (
            await self._store.list(caller.project, wanted, page),
            await self._store.count(caller.project, wanted),
        )

    async def select(
        self, caller: Caller, *, model: str, container: str, metadata_json: bytes
    ) -> CompletionFilter | None:
        """Return the filter that these stand for; None for an unknown container, of which there is nothing.

        Raises:
            GatewayError: VALIDATION_ERROR for metadata that is not an object; DEPENDENCY_UNAVAILABLE.
        """
        metadata = _metadata_pairs(metadata_json)
        route = await self._containers.lookup_any(caller, container) if container else None
        if container and route is None:
            return None
        found = self._router.find(model) if model else None
        return CompletionFilter(
            model=found.slug if found else model or None,
            container=route.key if route else None,
            metadata=metadata,
        )


def _not_found(completion_id: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_COMPLETION_NOT_FOUND,
        f"There is no completion {completion_id!r}.",
        param="id",
    )


def _metadata_pairs(metadata_json: bytes) -> tuple[tuple[str, bytes], ...]:
    if not metadata_json:
        return ()
    try:
        members = _members(metadata_json)
        if len(members) > MAX_METADATA_KEYS:
            raise _invalid(
                f"has {len(members)} keys; use at most {MAX_METADATA_KEYS}",
                "too_long",
            )
        pairs = {key: _decode(value) for key, value in members.items()}
    except (ValueError, RecursionError) as err:
        raise _invalid("must be a JSON object", "dict_type") from err
    return tuple((key, canonical_json(value)) for key, value in pairs.items())


def _invalid(problem: str, kind: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"The metadata filter {problem}.",
        param="metadata",
        violations=(Violation(("body",), problem, kind),),
    )
