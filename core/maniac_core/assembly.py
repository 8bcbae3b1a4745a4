"""What is made of what: every part of a core, made in the order of their dependencies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from maniac_common.telemetry import exports_traces

from maniac_core import grpc_port
from maniac_core.config.core import Config, ConfigError, CoreConfig
from maniac_core.config.edge_access import edge_secret
from maniac_core.config.provider import (
    DEMO_PROVIDER,
    LOCAL_PROVIDER,
    ProviderConfig,
    demo_provider,
    resolve_keys,
)
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.registry import DIALECTS, choice_of, signer_of, wires_of
from maniac_core.providers.scripted.transport import ScriptedTransport
from maniac_core.providers.transport import Transport, upstream_transport
from maniac_core.providers.upstream.upstream import Upstream
from maniac_core.relay_port import RelayPort
from maniac_core.rpc.access import AccessServicer
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.edges import EdgeCredential
from maniac_core.rpc.boundary.key_check import KeyCheck
from maniac_core.rpc.boundary.register import register
from maniac_core.rpc.chat.servicer import ChatServicer
from maniac_core.rpc.containers import ContainerServicer
from maniac_core.rpc.datasets import DatasetServicer
from maniac_core.rpc.embeddings import EmbeddingServicer
from maniac_core.rpc.evaluators import EvaluatorServicer
from maniac_core.rpc.files import FileServicer
from maniac_core.rpc.health import HealthServicer
from maniac_core.rpc.keys import KeyServicer
from maniac_core.rpc.models import ModelServicer
from maniac_core.rpc.relay.frames import RequestReader
from maniac_core.rpc.relay.servicer import RelayServicer
from maniac_core.rpc.responses import ResponseServicer
from maniac_core.rpc.traces import TraceServicer
from maniac_core.rpc.usage import UsageServicer
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.access.keys import KeyService
from maniac_core.services.access.seals import Seals
from maniac_core.services.billing.reservations import Reservations
from maniac_core.services.billing.spending import Spending
from maniac_core.services.billing.tokens import TokenGate
from maniac_core.services.capture.completion_lines import completion_writer
from maniac_core.services.capture.completion_log import LoggedRecorder
from maniac_core.services.capture.running_calls import RunningCalls
from maniac_core.services.capture.spool import Recorder, Spool
from maniac_core.services.chat.attempts import Runner
from maniac_core.services.chat.completions import CompletionService
from maniac_core.services.chat.counting import TokenCounter
from maniac_core.services.chat.idempotency import IdempotentCompletions
from maniac_core.services.datasets.datasets import DatasetService
from maniac_core.services.evaluators.evaluators import EvaluatorService
from maniac_core.services.files.files import FileService
from maniac_core.services.files.sweep import Sweeper
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.services.history.export import Exporter
from maniac_core.services.history.registration import Registrar
from maniac_core.services.history.replay import Replayer
from maniac_core.services.history.responses import StoredResponses
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
from maniac_core.storage.stores.budgets import BudgetStore
from maniac_core.storage.stores.completions import CompletionStore
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.datasets import DatasetStore
from maniac_core.storage.stores.evaluators import EvaluatorStore
from maniac_core.storage.stores.files import FileStore
from maniac_core.storage.stores.idempotency import IdempotencyStore
from maniac_core.storage.stores.keys import KeyStore
from maniac_core.storage.stores.retention import RetentionStore
from maniac_core.storage.stores.secrets import SecretStore
from maniac_core.storage.stores.text_index import TextIndexStore
from maniac_core.storage.stores.traces import TraceStore
from maniac_core.storage.stores.usage import UsageStore

if TYPE_CHECKING:
    from maniac_core.services.observe.metrics import Metrics
    from maniac_core.services.observe.tracing import Tracing

Work = tuple[str, Callable[[], Awaitable[None]]]
"""What a core does in the background, with its name in the log."""


class Parts:
    """The parts of one core. Making them opens nothing and starts nothing."""

    def __init__(self, config: Config, environ: Mapping[str, str], *, has_demo: bool) -> None:
        """`has_demo`: whether the scripted provider `demo` answers while there is no other provider.

        Raises:
            ConfigError: they cannot be made as configured.
        """
        self._config = config
        self._core = config.core
        self._environ = environ
        self._has_demo = has_demo
        self.health = HealthServicer()
        self.metrics = _metrics(config.core)
        self.tracing = _tracing(environ)
        self._storage()
        self._routing()
        self._access()
        self._capture()
        self._billing()
        self._chat()
        self._server()

    def _storage(self) -> None:
        database = self.database = open_database(self._core, self._environ)
        self._sealed = database if isinstance(database, SealedDatabase) else None
        self._completions = CompletionStore(database)
        self._files = FileStore(database)
        self._quotas = Quotas(self._core, self._completions, self._files)

    def _routing(self) -> None:
        providers = dict(self._config.providers)
        self._http = upstream_transport(self._environ)
        self.transports: list[Transport] = [self._http]
        self._catalogue = Catalogue(providers)
        self._router = Router.bundled(providers, self._catalogue, self._config.aliases)
        if self._has_demo:
            providers.setdefault(DEMO_PROVIDER, demo_provider())
            self._offer_demo()
        keys = {name: resolve_keys(provider, self._environ) for name, provider in providers.items()}
        self._signers = {
            name: signer
            for name, provider in providers.items()
            if (signer := signer_of(name, provider)) is not None
        }
        self._runner = Runner(
            {
                name: Upstream(
                    name,
                    provider,
                    DIALECTS[provider.kind],
                    self._transport_of(name, provider),
                    keys[name],
                    signer=self._signers.get(name),
                    choice=choice_of(name, provider),
                )
                for name, provider in providers.items()
            }
        )
        store = ContainerStore(self.database)
        self._containers = ContainerService(store, self._router)
        self._models = ModelService(
            providers=providers,
            keys=keys,
            router=self._router,
            catalogue=self._catalogue,
            containers=self._containers,
            store=store,
            transport=self._http,
        )
        wires = {name: wires_of(name, provider) for name, provider in providers.items()}
        self._planner = Planner(self._router, self._catalogue, self._containers, wires)

    def _transport_of(self, name: str, provider: ProviderConfig) -> Transport:
        if provider.kind != "scripted":
            return self._http
        # It stands where the network would be.
        scripted = ScriptedTransport(name, provider.rules)
        self.transports.append(scripted)
        return scripted

    def _access(self) -> None:
        self._keys = KeyStore(self.database)
        authenticator = Authenticator(
            self._keys, self._environ.get(self._core.internal_key_env), self._core.key_grace_s
        )

        def forget(tables: frozenset[str]) -> None:
            if "containers" in tables:
                self._containers.forget()
            if tables - {"containers"}:
                authenticator.forget()

        self.database.on_change(forget)
        self.database.on_contact(authenticator.contact)
        self.windows: Windows = (
            redis_windows(self._core) if self._core.redis_url else MemoryWindows()
        )
        self._limiter = RateLimiter(self._core, self.windows)
        edges = EdgeCredential(
            edge_secret(self._core, self._environ),
            requires_certificate=self._core.tls_client_ca is not None,
        )
        self._usage = UsageStore(self.database)
        self.refusals = Refusals(self._usage)
        self._gate = Gate(authenticator, self._limiter, edges, self.refusals)

    def _capture(self) -> None:
        self.spool = Spool(
            self._completions,
            self._core.data_dir / "spool",
            takes_records=self._core.durability == "available",
            commits=lambda: self.database.commits,
            seal=None if self._sealed is None else self._sealed.seal_record,
        )
        self.completion_log = LoggedRecorder(self.spool, completion_writer(self._core.log_format))
        self._recorder: Recorder = self.completion_log
        if self.metrics is not None:
            labels = ModelLabels(self._router.knows)
            self._recorder = self.metrics.recorder(self.completion_log, labels)
            self.metrics.watch(
                models=labels,
                runner=self._runner,
                limiter=self._limiter,
                windows=self.windows,
                spool=self.spool,
                database=self.database,
            )

    def _billing(self) -> None:
        budgets = BudgetStore(self.database)
        self.calls = RunningCalls(self._core.data_dir / "calls", self._completions, budgets)
        reservations = self.reservations = Reservations(budgets, self.calls.holder)
        self._spending = Spending(budgets, reservations, self._catalogue)

        def changed(tables: frozenset[str]) -> None:
            if "budgets" in tables:
                reservations.recall()

        def contact(_is_there: bool) -> None:
            # A reservation made in advance may have expired before its spending can be written.
            reservations.recall()

        self.database.on_change(changed)
        self.database.on_contact(contact)

    def _chat(self) -> None:
        service = CompletionService(
            self._planner,
            self._runner,
            self._catalogue,
            self._recorder,
            spending=self._spending,
            tokens=TokenGate(self._limiter),
            calls=self.calls,
            spans=self.tracing.spans if self.tracing is not None else None,
        )
        self.chat = IdempotentCompletions(
            service,
            IdempotencyStore(self.database),
            self._completions,
            is_optional=self._core.durability == "available",
            concurrency=Concurrency(self._core),
            quotas=self._quotas,
        )
        self._stored = StoredCompletions(self._completions, self._router, self._containers)
        self._replayer = Replayer(self._stored)

    def _server(self) -> None:
        gate, containers, database = self._gate, self._containers, self.database
        objects = open_objects(self._core, self._environ)
        self._sweeper = Sweeper(self._files, objects)
        files = FileService(
            self._files,
            objects,
            self._sweeper,
            max_bytes=self._core.max_file_bytes,
            quotas=self._quotas,
        )
        datasets = DatasetService(
            DatasetStore(database), containers, searches_bodies=self._sealed is None
        )
        evaluators = EvaluatorService(EvaluatorStore(database), containers, self._planner)
        usage = UsageService(self._usage, self._router, containers, self.refusals)
        chat = ChatServicer(
            gate,
            self.chat,
            self._stored,
            registrar=Registrar(self._completions, containers, self._router, self._quotas),
            exporter=Exporter(self._completions, self._stored),
            replayer=self._replayer,
        )
        seals = Seals(SecretStore(self.database))
        responses = StoredResponses(self._stored, is_default=self._core.responses_store_default)
        requests = RequestReader(self._replayer, responses, seals)
        counter = TokenCounter(self._planner, self._runner.upstreams)
        self.relay = RelayServicer(gate, self.chat, requests, counter)
        self.relay_port = RelayPort(self._core, self.relay)
        self.server = grpc_port.make_server(self._core, KeyCheck(gate, self.health))
        register(
            self.server,
            {
                "ChatService": chat,
                "RelayService": self.relay,
                "EmbeddingService": EmbeddingServicer(gate, self.chat),
                "ResponseService": ResponseServicer(gate, responses, seals),
                "ContainerService": ContainerServicer(gate, containers),
                "ModelService": ModelServicer(gate, self._models),
                "FileService": FileServicer(gate, files),
                "TraceService": TraceServicer(gate, TraceService(TraceStore(database))),
                "EvaluatorService": EvaluatorServicer(gate, evaluators),
                "UsageService": UsageServicer(gate, usage),
                "DatasetService": DatasetServicer(gate, datasets),
                "AccessService": AccessServicer(gate),
                "KeyService": KeyServicer(gate, KeyService(self._keys)),
            },
        )
        grpc_port.add_health_and_reflection(self.server, self._core, self.health)

    def background(self) -> list[Work]:
        """Return what goes on while the core serves."""
        retention = Retention(RetentionStore(self.database), self._core.body_retention_days)
        work: list[Work] = [
            ("asking providers for their models", self._models.keep_fresh),
            ("sweeping files", self._sweeper.run),
            ("replaying the spool", self.spool.replay_forever),
            ("deleting old bodies", retention.run),
            ("counting refusals", self.refusals.run),
        ]
        work += [
            (f"renewing the credentials of {name}", signer.keep_fresh)
            for name, signer in self._signers.items()
        ]
        # PostgreSQL fills its index itself.
        if self._core.text_index and not is_postgres(self._core.database_url):
            work.append(("indexing texts", TextIndexer(TextIndexStore(self.database)).run))
        return work

    def drop_local_model(self) -> None:
        """Stop offering the embedded model: its process is given up."""
        self._router.drop(LOCAL_PROVIDER)
        self._offer_demo()

    def _offer_demo(self) -> None:
        if self._has_demo and not self._router.has_providers:
            self._router.adopt(DEMO_PROVIDER, demo_provider())


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
