"""The captured completions as commands reach them: in the database itself, whether or not a core runs on it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator

import msgspec

from maniac_core.cli.database import opened
from maniac_core.cli.settings import load_core
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import request_id
from maniac_core.domain.paging import Page
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.services.history.export import Exporter
from maniac_core.services.history.registration import Registrar
from maniac_core.services.limits.quotas import Quotas
from maniac_core.services.routing.containers import ContainerService, bare_label
from maniac_core.services.routing.nearest import Nearest
from maniac_core.services.routing.router import Router
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.files import FileStore
from maniac_core.storage.stores.keys import KeyStore

_MOST_LABELS = 1000


class Collection(msgspec.Struct, frozen=True):
    """One project's completions."""

    call: Call
    """The caller: the operator, in that project."""
    registrar: Registrar
    exporter: Exporter
    containers: ContainerService

    async def require_container(self, name: str) -> None:
        """Refuse a name that no container has, not even a deleted one by its id.

        Raises:
            GatewayError: CONTAINER_NOT_FOUND, with the nearest label.
        """
        caller = self.call.caller
        if await self.containers.lookup_any(caller, name) is not None:
            return
        found, _ = await self.containers.list(caller, Page(limit=_MOST_LABELS))
        near = Nearest({each.label: each.label for each in found}).find(bare_label(name))
        hint = f" Did you mean {near!r}?" if near else ""
        raise GatewayError(
            Reason.ERROR_REASON_CONTAINER_NOT_FOUND, f"There is no container {name!r}.{hint}"
        )


@contextlib.asynccontextmanager
async def open_collection(arguments: argparse.Namespace) -> AsyncIterator[Collection]:
    """Open the database of the configuration, for the project that `--project` names.

    Raises:
        ConfigError: the configuration cannot be used.
        StorageError: the database cannot.
        GatewayError: PROJECT_NOT_FOUND.
    """
    config = load_core(arguments)
    async with opened(config.core) as database:
        store = CompletionStore(database)
        quotas = Quotas(config.core, store, FileStore(database))
        router = Router.bundled(config.providers, Catalogue(config.providers))
        containers = ContainerService(ContainerStore(database), router)
        caller = await Authenticator(KeyStore(database), None).internal_caller(arguments.project)
        yield Collection(
            call=Call(caller=caller, request_id=request_id()),
            registrar=Registrar(store, containers, router, quotas),
            exporter=Exporter(store, StoredCompletions(store, router, containers)),
            containers=containers,
        )
