"""Containers: named routes that their project makes, changes and deletes; cached, because every routed request asks."""

from __future__ import annotations

import re

import msgspec

from maniac_core.domain.audit import actor
from maniac_core.domain.callers import Caller
from maniac_core.domain.containers import Container, SubModel
from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.ids import now_s, uuid_id
from maniac_core.domain.paging import Page
from maniac_core.services.routing.router import Router, model_id, normalise
from maniac_core.storage.base import ConstraintError
from maniac_core.storage.stores.audit import audited
from maniac_core.storage.stores.containers import ContainerStore

_FORBIDDEN = re.compile(r"[/:?#%\x00-\x1f\x7f]")
_MAX_CACHED = 10_000
SERVED_API = "chat.completions"
KNOWN_APIS = frozenset(
    {
        SERVED_API,
        "completions",
        "responses",
        "embeddings",
        "rerank",
        "containers",
        "models",
        "datasets",
        "evaluation",
        "optimization",
        "project.keys",
    }
)


class ContainerService:
    """Containers within the caller's project. `forget` is to be called when any process changed one."""

    def __init__(self, store: ContainerStore, router: Router) -> None:
        self._store = store
        self._router = router
        self._cache: dict[tuple[int, str], Container | None] = {}
        self._generation = 0

    def forget(self) -> None:
        """Drop what is cached."""
        self._cache.clear()
        self._generation += 1

    async def find(self, caller: Caller, label: str) -> Container | None:
        """Return the live container of that label, from the cache if it is there.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        key = (caller.project, label)
        if key in self._cache:
            return self._cache[key]
        generation = self._generation
        container = await self._store.find_by_label(caller.project, label)
        if generation == self._generation:
            # Otherwise a change came while it was read, and what was read may be from before.
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[key] = container
        return container

    async def lookup(self, caller: Caller, name: str) -> Container | None:
        """Return the live container of a label, `maniac:label` or id; a label wins over an id.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        label = bare_label(name)
        container = await self._store.find_by_label(caller.project, label)
        if container is None:
            container = await self._store.find_by_id(caller.project, name)
        return container if container is not None and container.deleted is None else None

    async def lookup_any(self, caller: Caller, name: str) -> Container | None:
        """Return a container as `lookup` does, or a deleted one by its id: its completions stay listed."""
        container = await self.lookup(caller, name)
        if container is not None:
            return container
        return await self._store.find_by_id(caller.project, name)

    async def get(self, caller: Caller, name: str) -> Container:
        """Return the live container of a label, `maniac:label` or id.

        Raises:
            GatewayError: CONTAINER_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        container = await self.lookup(caller, name)
        if container is None:
            raise GatewayError(
                Reason.ERROR_REASON_CONTAINER_NOT_FOUND,
                f"There is no container {name!r}.",
                param="container",
            )
        return container

    async def list(self, caller: Caller, page: Page) -> tuple[list[Container], int]:
        """Return a page of the live containers, newest first, and the count of all.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        return await self._store.list(caller.project, page), await self._store.count(caller.project)

    async def create(self, caller: Caller, wanted: Container) -> Container:
        """Make a container from the values of `wanted`; its ids and times are made here.

        Raises:
            GatewayError: VALIDATION_ERROR; NOT_IMPLEMENTED for an api that is not served; MODEL_NOT_FOUND;
                CONTAINER_EXISTS, with the existing one's id in details; DEPENDENCY_UNAVAILABLE.
        """
        check_name(wanted.label, "label")
        _check_api(wanted.api)
        container = msgspec.structs.replace(
            wanted,
            id=uuid_id(),
            initial_model=self._model(wanted.initial_model, "initial_model"),
            created=now_s(),
        )
        try:
            await self._store.add(caller.project, container)
        except ConstraintError as err:
            existing = await self.lookup(caller, wanted.label)
            raise GatewayError(
                Reason.ERROR_REASON_CONTAINER_EXISTS,
                f"The project already has a container {wanted.label!r}.",
                param="label",
                details={"container": {"id": existing.id, "label": existing.label}}
                if existing
                else None,
            ) from err
        self.forget()
        return await self.get(caller, container.label)

    async def update(self, caller: Caller, name: str, changes: dict[str, object]) -> Container:
        """Replace fields of a container by their domain names; None clears one.

        `default_model` is a slug or id of a provider's model, or a slug or id of one of the container's own.

        Raises:
            GatewayError: CONTAINER_NOT_FOUND; MODEL_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        container = await self.get(caller, name)
        if not changes:
            return container
        if "default_model" in changes:
            wanted = changes.pop("default_model")
            changes["default_model"], changes["best_model_id"] = self._default_model(
                container, str(wanted) if wanted else None
            )
        changed = msgspec.structs.replace(container, **changes)
        await self._store.update(caller.project, changed, changes.keys())
        self.forget()
        return await self.get(caller, container.id)

    async def delete(self, caller: Caller, name: str) -> Container:
        """Delete a container softly and return it.

        Raises:
            GatewayError: CONTAINER_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        container = await self.get(caller, name)
        deleted = now_s()
        event = audited(
            actor(caller), "container.deleted", container.id, {"label": container.label}
        )
        await self._store.delete(caller.project, container.id, deleted, event)
        self.forget()
        return msgspec.structs.replace(container, deleted=deleted)

    async def add_model(
        self, caller: Caller, name: str, wanted: SubModel
    ) -> tuple[Container, SubModel]:
        """Attach a model to a container; return both.

        Raises:
            GatewayError: VALIDATION_ERROR; CONTAINER_NOT_FOUND; MODEL_NOT_FOUND; MODEL_SLUG_EXISTS;
                DEPENDENCY_UNAVAILABLE.
        """
        check_name(wanted.slug, "slug")
        container = await self.get(caller, name)
        model = msgspec.structs.replace(
            wanted, id=uuid_id(), model=self._model(wanted.model, "model"), created=now_s()
        )
        try:
            await self._store.add_model(container, model)
        except ConstraintError as err:
            raise GatewayError(
                Reason.ERROR_REASON_MODEL_SLUG_EXISTS,
                f"The container {container.label!r} already has a model {wanted.slug!r}.",
                param="slug",
            ) from err
        self.forget()
        return container, model

    def _model(self, slug: str, param: str) -> str:
        """Return the canonical slug of a provider's model, or an alias; containers do not nest."""
        found = self._router.canonical(slug)
        if found is None:
            raise self._router.unknown(slug, param)
        return found

    def _default_model(
        self, container: Container, wanted: str | None
    ) -> tuple[str | None, str | None]:
        if wanted is None:
            return None, None
        for sub in container.sub_models:
            if wanted == sub.id or normalise(wanted) in (
                normalise(sub.slug),
                f"maniac/{container.label}/{normalise(sub.slug)}",
            ):
                return sub.model, sub.id
        found = self._model(wanted, "default_model")
        return found, model_id(found)


def bare_label(name: str) -> str:
    """Return the label of `label`, `maniac:label` or `maniac/label`."""
    for prefix in ("maniac:", "maniac/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def check_name(name: str, field: str) -> None:
    """Check a label or slug: it stands in slugs and in URLs that clients do not escape.

    Raises:
        GatewayError: VALIDATION_ERROR.
    """
    if not 1 <= len(name) <= 128:
        problem = "must have 1 to 128 characters"
    elif name != name.strip():
        problem = "must not begin or end with a blank"
    elif _FORBIDDEN.search(name):
        problem = "must not contain / : ? # % or control characters"
    else:
        return
    raise GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"{field} {problem}.",
        param=field,
        violations=(Violation(("body", field), problem, "value_error"),),
    )


def _check_api(api: str) -> None:
    if api == SERVED_API:
        return
    if api in KNOWN_APIS:
        raise GatewayError(
            Reason.ERROR_REASON_NOT_IMPLEMENTED,
            f"Containers of api {api!r} are not available in this deployment.",
            param="api",
        )
    raise GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"api {api!r} is unknown.",
        param="api",
        violations=(Violation(("body", "api"), "is unknown", "enum"),),
    )
