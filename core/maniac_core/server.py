"""The composition root of the core: builds every part from the configuration, serves, drains and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2
from maniac_common import process
from maniac_common.supervised import supervised
from maniac_common.telemetry import exports_traces

from maniac_core import grpc_port
from maniac_core.config.core import (
    DEMO_PROVIDER,
    LOCAL_PROVIDER,
    Config,
    ConfigError,
    CoreConfig,
    ProviderConfig,
    demo_provider,
    resolve_keys,
)
from maniac_core.config.edge_access import edge_secret
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.scripted.transport import ScriptedTransport
from maniac_core.providers.transport import Transport, upstream_transport
from maniac_core.providers.upstream.upstream import Upstream
from maniac_core.relay_port import RelayPort
from maniac_core.rpc.access import AccessServicer
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.edges import EdgeCredential
from maniac_core.rpc.boundary.key_check import KeyCheck
from maniac_core.rpc.boundary.register import register, service_names
from maniac_core.rpc.chat.servicer import ChatServicer
from maniac_core.rpc.containers import ContainerServicer
from maniac_core.rpc.datasets import DatasetServicer
from maniac_core.rpc.evaluators import EvaluatorServicer
from maniac_core.rpc.files import FileServicer
from maniac_core.rpc.health import HealthServicer
from maniac_core.rpc.keys import KeyServicer
from maniac_core.rpc.models import ModelServicer
from maniac_core.rpc.relay.servicer import RelayServicer
from maniac_core.rpc.traces import TraceServicer
from maniac_core.rpc.usage import UsageServicer
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.access.configuration_log import note_configuration
from maniac_core.services.access.keys import KeyService
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.billing.spending import Spending
from maniac_core.services.billing.tokens import TokenGate
from maniac_core.services.capture.completion_lines import completion_writer
from maniac_core.services.capture.completion_log import LoggedRecorder
from maniac_core.services.capture.running_calls import RunningCalls
from maniac_core.services.capture.spool import Recorder, Spool
from maniac_core.services.chat.attempts import Runner
from maniac_core.services.chat.completions import CompletionService
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.datasets.datasets import DatasetService
from maniac_core.services.evaluators.evaluators import EvaluatorService
from maniac_core.services.files.files import FileService
from maniac_core.services.files.sweep import Sweeper
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.services.history.export import Exporter
from maniac_core.services.history.registration import Registrar
from maniac_core.services.history.replay import Replayer
from maniac_core.services.history.retention import Retention
from maniac_core.services.history.text_index import TextIndexer
from maniac_core.services.history.traces import TraceService
from maniac_core.services.history.usage import UsageService
from maniac_core.services.limits.concurrency import Concurrency
from maniac_core.services.limits.quotas import Quotas
from maniac_core.services.limits.rate_limiter import MemoryWindows, RateLimiter, Windows
from maniac_core.services.limits.redis_windows import redis_windows
from maniac_core.services.limits.refusals import Refusals
from maniac_core.services.observe.model_labels import ModelLabels
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.models import ModelService
from maniac_core.services.routing.planner import Planner
from maniac_core.services.routing.router import Router
from maniac_core.storage.engines import is_postgres, open_database
from maniac_core.storage.object_store import open_objects
from maniac_core.storage.sealed.database import SealedDatabase
from maniac_core.storage.stores.audit import AuditStore
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.evaluators import EvaluatorStore
from maniac_core.storage.stores.files import FileStore
from maniac_core.storage.stores.idempotency import IdempotencyStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.retention import RetentionStore
from maniac_core.storage.stores.text_index import TextIndexStore
from maniac_core.storage.stores.traces import TraceStore
from maniac_core.storage.stores.usage import UsageStore

if TYPE_CHECKING:
    from maniac_core.services.observe.metrics import Metrics
    from maniac_core.services.observe.tracing import Tracing

_log = logging.getLogger(__name__)


class Core:
    """A core that can be started and stopped on a running event loop."""

    def __init__(
        self, config: Config, environ: Mapping[str, str], *, has_demo: bool = False
    ) -> None:
        """`has_demo`: whether the scripted provider `demo` answers while there is no other provider."""
        self.config = config
        self._has_demo = has_demo
        self._environ = environ
        self._database = open_database(config.core, environ)
        self._http = upstream_transport(environ)
        self._transports: list[Transport] = [self._http]
        self._health = HealthServicer()
        self._metrics = _metrics(config.core)
        self._tracing = _tracing(environ)
        self._server = self._build()

    def _build(self) -> grpc.aio.Server:
        config = self.config.core
        providers = dict(self.config.providers)
        catalogue = Catalogue(providers)
        router = self._router = Router.bundled(providers, catalogue, self.config.aliases)
        if self._has_demo:
            providers.setdefault(DEMO_PROVIDER, demo_provider())
            self._offer_demo()
        provider_keys = {
            name: resolve_keys(provider, self._environ) for name, provider in providers.items()
        }
        upstreams = {
            name: Upstream(
                name,
                provider,
                DIALECTS[provider.kind],
                self._transport_of(name, provider),
                provider_keys[name],
            )
            for name, provider in providers.items()
        }
        store = CompletionStore(self._database)
        sealed = self._database if isinstance(self._database, SealedDatabase) else None
        self._spool = Spool(
            store,
            config.data_dir / "spool",
            takes_records=config.durability == "available",
            commits=lambda: self._database.commits,
            seal=None if sealed is None else sealed.seal_record,
        )
        keys = KeyStore(self._database)
        authenticator = Authenticator(
            keys, self._environ.get(config.internal_key_env), config.key_grace_s
        )
        container_store = ContainerStore(self._database)
        containers = ContainerService(container_store, router)
        self._models = ModelService(
            providers=providers,
            keys=provider_keys,
            router=router,
            catalogue=catalogue,
            containers=containers,
            store=container_store,
            transport=self._http,
        )

        def forget(tables: frozenset[str]) -> None:
            if "containers" in tables:
                containers.forget()
            if tables - {"containers"}:
                authenticator.forget()

        self._database.on_change(forget)
        self._database.on_contact(authenticator.contact)
        self._windows: Windows = redis_windows(config) if config.redis_url else MemoryWindows()
        limiter = RateLimiter(config, self._windows)
        edges = EdgeCredential(
            edge_secret(config, self._environ),
            requires_certificate=config.tls_client_ca is not None,
        )
        usage_store = UsageStore(self._database)
        self._refusals = Refusals(usage_store)
        gate = Gate(authenticator, limiter, edges, self._refusals)
        budgets = BudgetStore(self._database)
        self._calls = RunningCalls(config.data_dir / "calls", store, budgets)
        self._reservations = Reservations(budgets, self._calls.holder)
        self._recall_advances_when_due()
        spending = Spending(budgets, self._reservations, catalogue)
        planner = Planner(router, catalogue, containers)
        runner = Runner(upstreams)
        recorder: Recorder = self._spool
        self._completion_log = LoggedRecorder(recorder, completion_writer(config.log_format))
        recorder = self._completion_log
        if self._metrics is not None:
            labels = ModelLabels(router.knows)
            recorder = self._metrics.recorder(recorder, labels)
            self._metrics.watch(
                models=labels,
                runner=runner,
                limiter=limiter,
                windows=self._windows,
                spool=self._spool,
                database=self._database,
            )
        file_store = FileStore(self._database)
        quotas = Quotas(config, store, file_store)
        service = self._completions = IdempotentCompletions(
            (self._tracing.completions if self._tracing is not None else CompletionService)(
                planner,
                runner,
                catalogue,
                recorder,
                spending=spending,
                tokens=TokenGate(limiter),
                calls=self._calls,
            ),
            IdempotencyStore(self._database),
            store,
            is_optional=config.durability == "available",
            concurrency=Concurrency(config),
            quotas=quotas,
        )
        stored = StoredCompletions(store, router, containers)
        self._retention = Retention(RetentionStore(self._database), config.body_retention_days)
        replayer = Replayer(stored)
        self._relay = RelayServicer(gate, service, replayer)
        self._relay_port = RelayPort(config, self._relay)
        objects = open_objects(config, self._environ)
        self._sweeper = Sweeper(file_store, objects)
        files = FileService(
            file_store, objects, self._sweeper, max_bytes=config.max_file_bytes, quotas=quotas
        )

        server = grpc_port.make_server(config, KeyCheck(gate, self._health))
        register(
            server,
            {
                "ChatService": ChatServicer(
                    gate,
                    service,
                    stored,
                    registrar=Registrar(store, containers, router, quotas),
                    exporter=Exporter(store, stored),
                    replayer=replayer,
                ),
                "RelayService": self._relay,
                "ContainerService": ContainerServicer(gate, containers),
                "ModelService": ModelServicer(gate, self._models),
                "FileService": FileServicer(gate, files),
                "TraceService": TraceServicer(gate, TraceService(TraceStore(self._database))),
                "EvaluatorService": EvaluatorServicer(
                    gate, EvaluatorService(EvaluatorStore(self._database), containers, planner)
                ),
                "UsageService": UsageServicer(
                    gate, UsageService(usage_store, router, containers, self._refusals)
                ),
                "DatasetService": DatasetServicer(
                    gate,
                    DatasetService(
                        DatasetStore(self._database), containers, searches_bodies=sealed is None
                    ),
                ),
                "AccessService": AccessServicer(gate),
                "KeyService": KeyServicer(gate, KeyService(keys)),
            },
        )
        grpc_port.add_health_and_reflection(server, config, self._health)
        return server

    def drop_local_model(self) -> None:
        """Stop offering the embedded model: its process is given up."""
        self._router.drop(LOCAL_PROVIDER)
        self._offer_demo()

    def _offer_demo(self) -> None:
        if self._has_demo and not self._router.has_providers:
            self._router.adopt(DEMO_PROVIDER, demo_provider())

    def _recall_advances_when_due(self) -> None:
        def changed(tables: frozenset[str]) -> None:
            if "budgets" in tables:
                self._reservations.recall()

        def contact(_is_there: bool) -> None:
            # A reservation made in advance may have expired before its spending can be written.
            self._reservations.recall()

        self._database.on_change(changed)
        self._database.on_contact(contact)

    def _transport_of(self, name: str, provider: ProviderConfig) -> Transport:
        if provider.kind != "scripted":
            return self._http
        # It stands where the network would be.
        scripted = ScriptedTransport(name, provider.rules)
        self._transports.append(scripted)
        return scripted

    async def start(self) -> None:
        """Open the database, listen, and report SERVING.

        Raises:
            StorageError: the database cannot be used.
            OSError: an address cannot be listened on.
        """
        config = self.config.core
        await self._database.start()
        settling = await self._calls.open()
        await note_configuration(AuditStore(self._database), self.config)
        grpc_port.listen(self._server, config)
        if self._metrics is not None:
            self._metrics.listen(config.metrics_listen)
        await self._relay_port.start()
        await self._server.start()
        config.socket_path.chmod(0o600)
        self._background = [
            settling,
            *(
                asyncio.create_task(supervised(what, work))
                for what, work in (
                    ("asking providers for their models", self._models.keep_fresh),
                    ("sweeping files", self._sweeper.run),
                    ("replaying the spool", self._spool.replay_forever),
                    ("deleting old bodies", self._retention.run),
                    ("counting refusals", self._refusals.run),
                    *self._indexing(),
                )
            ),
        ]
        for name in ("", *service_names()):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _indexing(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """PostgreSQL fills its index itself."""
        if not self.config.core.text_index or is_postgres(self.config.core.database_url):
            return []
        return [("indexing texts", TextIndexer(TextIndexStore(self._database)).run)]

    async def stop(self, grace_s: float) -> None:
        """Report NOT_SERVING, refuse new calls, let running ones finish for `grace_s` seconds, flush, close."""
        self._relay.drain()
        await self._health.leave(grace_s)
        for task in self._background:
            task.cancel()
        await asyncio.gather(self._server.stop(grace_s), self._relay_port.stop(grace_s))
        for transport in self._transports:
            await transport.aclose()
        await self._completions.close()
        await self._refusals.close()
        self._completion_log.flush()
        await self._reservations.close()
        await self._windows.aclose()
        if self._metrics is not None:
            # Before the database, which it asks.
            await self._metrics.aclose()
        await self._database.close()
        await self._spool.close()
        # Only now is it known what is durable.
        self._calls.close()
        if self._tracing is not None:
            await self._tracing.aclose()


async def run_core(
    config: Config,
    environ: Mapping[str, str],
    ready: Callable[[], None] = lambda: None,
    *,
    has_demo: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain. Return the exit status.

    `ready` is called when calls are served. SIGUSR1 says that the embedded model is given up.
    """
    process.work_in_batches()
    loop = asyncio.get_running_loop()
    stopping, hurried = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurried if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    core = Core(config, environ, has_demo=has_demo)
    loop.add_signal_handler(signal.SIGUSR1, core.drop_local_model)
    await core.start()
    process.settle()
    _log.info("core serves", extra={"fields": {"grpc": config.core.listen}})
    ready()
    await stopping.wait()
    drain = asyncio.create_task(core.stop(config.core.grace_s))
    hurry = asyncio.create_task(hurried.wait())
    await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        drain.cancel()
        # The calls are cut, but what was captured is still committed.
        await core.stop(0)
    hurry.cancel()
    return 0


def _metrics(config: CoreConfig) -> Metrics | None:
    if not config.metrics_listen:
        return None
    from maniac_core.services.observe.metrics import Metrics  # noqa: PLC0415 - only where it is wanted

    return Metrics()


def _tracing(environ: Mapping[str, str]) -> Tracing | None:
    try:
        if not exports_traces(environ):
            return None
    except ValueError as err:
        raise ConfigError(str(err)) from None
    from maniac_core.services.observe.tracing import Tracing  # noqa: PLC0415 - only where it is wanted

    return Tracing()
