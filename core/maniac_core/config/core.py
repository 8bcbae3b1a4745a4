"""Configuration of the core: one TOML file, environment overrides, secrets by reference only."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from maniac_common.config_file import ConfigError as ConfigError  # noqa: PLC0414 - known from here
from maniac_common.config_file import ConfigFile, from_environ
from maniac_common.telemetry import metrics_address

from maniac_core.config.checks import check_url, check_variable
from maniac_core.config.known import KNOWN_PROVIDERS, known_as
from maniac_core.config.provider import (
    DEMO_PROVIDER,
    LOCAL_PROVIDER,
    AliasConfig,
    Count,
    Positive,
    ProviderConfig,
    Seconds,
    Table,
    Timeouts,
)

_SMALLEST_POOL = 4
_LONGEST_ALIAS = 128
_NOT_IN_ALIASES = re.compile(r"[/: ]|^$")
_OBJECT_STORE = re.compile(r"s3://[^/]+(/.*)?$|file:///.")

DEFAULT_LOCAL_MODEL = "smollm2-135m-instruct"
"""The model that `maniac-gateway pull` fetches and `serve` serves by default."""
RELAY_SUFFIX = ".hop"


class CoreConfig(Table, frozen=True):
    """The `[core]` table."""

    data_dir: Path = Path("data")
    """Where the database, the socket, the models and the files lie."""
    database_url: str = "sqlite"
    """`sqlite`: one file in data_dir; `postgresql://USER@HOST/DATABASE`: a server, for several cores."""
    database_pool: int = 10
    """Connections to PostgreSQL that a core may hold; at least 4, three of which have work of their own."""
    database_timeout_s: Seconds = 10.0
    """How long a statement may take on PostgreSQL, in seconds."""
    listen: str = "127.0.0.1:4141"
    """Address of the gRPC port for internal services, and for edges on other machines."""
    relay_listen: str = ""
    """Address on which the core takes the streams of edges on other machines without gRPC's threads, which costs less;
    the edges learn it from the gRPC port. Port 0: any free one. Empty: they use the gRPC port."""
    tls_cert: Path | None = None
    """Certificate chain of both ports (PEM); unset: they are plaintext."""
    tls_key: Path | None = None
    """Private key of the certificate (PEM)."""
    tls_client_ca: Path | None = None
    """Authorities (PEM) one of which must have signed the certificate of every client of the ports; unset: clients
    need none."""
    edge_key_env: str = "MANIAC_EDGE_KEY"
    """Name of the environment variable with the secret that edges on other machines share with the core. Unset
    variable: only a client certificate makes an edge; on the Unix socket neither is needed."""
    grpc_max_streams: Positive = 1000
    """Calls that one connection to the gRPC port may have under way."""
    reflection: bool | None = None
    """Whether the gRPC port describes its services to callers with a key; unset: only on a loopback address."""
    socket: Path | None = None
    """Unix socket for edges on this machine; unset: `core.sock` in data_dir. One for their streams is beside it, with
    the suffix `.hop`."""
    rate_limit: Count = 600
    """Requests per window and organization; 0: no limit."""
    rate_window_s: Positive = 60
    """Length of the window, in seconds."""
    concurrent_requests: Count = 0
    """Chat requests of one organization that may run in a core at the same time; 0: no limit."""
    concurrent_requests_per_project: Count = 0
    """The same for one project, besides its organization's."""
    concurrent_requests_per_key: Count = 0
    """The same for one key, besides its project's."""
    token_limit: Count = 0
    """Tokens per window and organization, prompt and answer together; 0: no limit."""
    redis_url: str = ""
    """Redis or Valkey that counts the windows of several cores; empty: each core counts by itself."""
    redis_timeout_ms: Positive = 250
    """How long its answers may take; after that requests are let through uncounted, until it answers again."""
    durability: Literal["strict", "available"] = "strict"
    """What happens to an answer whose record cannot be committed. `strict`: the request fails with 503. `available`: it
    is answered, and the record waits in `spool` in data_dir until the database takes it."""
    key_grace_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """How long keys that were used before go on being accepted while the database is away, in seconds. 0: not at all,
    requests are a 503; a key that is revoked meanwhile is accepted until the grace ends."""
    project_max_completions: Count = 0
    """Completions with content that a project may hold, registered examples included; 0: no quota."""
    project_max_file_bytes: Count = 0
    """Bytes of files that a project may hold; 0: no quota."""
    responses_store_default: bool = False
    """Whether a response is kept for `GET /v1/responses/{id}` and `previous_response_id` if its request does not say so
    by `store`."""
    text_index: bool = False
    """Whether the texts of requests and answers are indexed, which makes datasets by a rare text quick. SQLite keeps the
    texts once more for it; PostgreSQL needs its extension pg_trgm."""
    body_key_env: str = "MANIAC_BODY_KEY"
    """Name of the environment variable with the keys that requests and answers are encrypted with at rest, 32 bytes in
    base64 each, with commas between them: the first one encrypts, all decrypt. Unset variable: not encrypted."""
    body_retention_days: Count = 0
    """After how many days requests and answers are deleted; the ledger and datasets keep what they have. 0: never."""
    sqlite_synchronous: Literal["normal", "full"] = "normal"
    """`normal` survives the death of any process; `full` also a power cut, at one fsync per commit."""
    max_message_bytes: Positive = 64 * 1024 * 1024
    """Largest gRPC message; above the edge's max_body_bytes."""
    max_file_bytes: Positive = 2 * 1024 * 1024 * 1024
    """Largest uploaded file; not below the edge's max_file_bytes."""
    object_store_url: str = ""
    """Where the bytes of files lie: `s3://BUCKET[/PREFIX]`, `file:///FOLDER`; empty: the folder `files` in data_dir."""
    object_store_endpoint: str = ""
    """Address of an S3-compatible server; empty: Amazon's."""
    object_store_region: str = ""
    """Region of the bucket; empty: `AWS_REGION`, else us-east-1."""
    object_store_key_id_env: str = "AWS_ACCESS_KEY_ID"
    """Name of the environment variable with the id of the access key; unset variable: the machine's own role."""
    object_store_secret_env: str = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - a name, not a secret
    """Name of the environment variable with the secret of the access key."""
    grace_s: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    """How long running answers may take after SIGTERM, in seconds."""
    internal_key_env: str = "MANIAC_INTERNAL_KEY"
    """Name of the environment variable with the key of internal services (gRPC only); unset variable: none."""
    local_model: str = ""
    """GGUF file that `serve` serves as `local/<file stem>`; empty: the pulled default model; `off`: none."""
    local_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 4142
    """Port of the local model's server on 127.0.0.1."""
    metrics_listen: str = ""
    """Address of a listener of its own for Prometheus, `HOST:PORT`; empty: none, and nothing is measured."""
    log_format: Literal["auto", "json", "pretty"] = "auto"
    """`auto`: pretty on a terminal."""

    def __post_init__(self) -> None:
        """Refuse an object store of no known kind, a pool that is too small, and an address that is none."""
        if self.metrics_listen:
            metrics_address(self.metrics_listen)
        if self.socket is not None and self.socket.suffix == RELAY_SUFFIX:
            raise ValueError(
                f"`socket` needs another suffix than {RELAY_SUFFIX}, which the socket beside it has"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("`tls_cert` and `tls_key` belong together: set both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("`tls_client_ca` needs `tls_cert` and `tls_key`")
        if self.database_url.startswith(("postgresql:", "postgres:")):
            check_url("database_url", self.database_url, ("postgresql", "postgres"))
        if self.redis_url and not self.redis_url.startswith("unix://"):
            check_url("redis_url", self.redis_url, ("redis", "rediss", "unix"))
        if self.object_store_endpoint:
            check_url("object_store_endpoint", self.object_store_endpoint)
        for field in msgspec.structs.fields(self):
            if field.name.endswith("_env"):
                check_variable(field.name, getattr(self, field.name), str(field.default))
        if self.database_pool < _SMALLEST_POOL:
            raise ValueError(f"`database_pool` is below {_SMALLEST_POOL}")
        if self.object_store_url and not _OBJECT_STORE.match(self.object_store_url):
            raise ValueError(
                "`object_store_url` must be one of `s3://BUCKET`, `s3://BUCKET/PREFIX`, `file:///FOLDER`"
            )

    @property
    def socket_path(self) -> Path:
        """The Unix socket the core listens on."""
        return self.socket or self.data_dir / "core.sock"

    @property
    def relay_socket_path(self) -> Path:
        """The Unix socket beside it, for the streams of edges."""
        return self.socket_path.with_suffix(RELAY_SUFFIX)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "gateway.db"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the core and the command."""

    core: CoreConfig
    providers: dict[str, ProviderConfig]
    aliases: dict[str, AliasConfig] = {}
    source: str | None
    """The file it came from."""


_TABLES = ("core", "edge", "providers", "aliases")
_CORE_PREFIX = "MANIAC_CORE__"


def load(path: Path | None, environ: Mapping[str, str], **overrides: Any) -> Config:
    """Read the file, apply `MANIAC_CORE__KEY` variables, then `overrides` that are not None.

    Raises:
        ConfigError: the file is missing, not TOML, or has an unknown key or a wrong type.
    """
    file = ConfigFile(path, _TABLES)
    core_table = file.table("core")
    variables = from_environ(_CORE_PREFIX, CoreConfig, environ)
    given = {key: value for key, value in overrides.items() if value is not None}
    names = {key: f"{_CORE_PREFIX}{key.upper()}" for key in variables}
    core = file.convert({**core_table, **variables, **given}, CoreConfig, "core", names)
    providers: dict[str, ProviderConfig] = {}
    for name, table in file.table("providers").items():
        where = f"providers.{name}"
        if name == "maniac" or not name or any(character in name for character in "/: "):
            what = (
                "the name 'maniac' is reserved for containers"
                if name == "maniac"
                else "a provider name must not be empty, or contain `/`, `:` or a blank"
            )
            raise file.error(where, "", what)
        if not isinstance(table, dict):
            if name in {field.name for field in msgspec.structs.fields(ProviderConfig)}:
                raise file.error(
                    "providers", name, "a provider has a table of its own: write [providers.NAME]"
                )
            raise file.error(where, "", "is not a table")
        # A scripted stand-in takes a known name without its address and its key.
        kind = table.get("kind")
        known = known_as(name, kind) if kind != "scripted" else None
        defaults = known.defaults(environ, own_base_url="base_url" in table) if known else {}
        providers[name] = file.convert({**defaults, **table}, ProviderConfig, where)
    for name, known in KNOWN_PROVIDERS.items():
        if name not in providers and known.is_available(environ):
            providers[name] = ProviderConfig(**known.defaults(environ, own_base_url=False))
    local = local_provider(core)
    if local is not None:
        providers.setdefault(LOCAL_PROVIDER, local)
    aliases = {
        name: _alias(file, name, table, providers) for name, table in file.table("aliases").items()
    }
    return Config(
        core=core, providers=providers, aliases=aliases, source=str(path) if path else None
    )


def _alias(
    file: ConfigFile, name: str, table: Any, providers: Mapping[str, ProviderConfig]
) -> AliasConfig:
    where = f"aliases.{name}"
    if len(name) > _LONGEST_ALIAS or _NOT_IN_ALIASES.search(name) or not name.isprintable():
        what = "is not a usable name: 1 to 128 characters without /, : and blanks"
        raise file.error(where, "", what)
    known = {LOCAL_PROVIDER, DEMO_PROVIDER, *KNOWN_PROVIDERS, *providers}
    if name in {"maniac", *known}:
        raise file.error(where, "", "has the name of a provider; choose another one")
    if not isinstance(table, dict):
        raise file.error("aliases", name, "an alias has a table of its own: write [aliases.NAME]")
    alias = file.convert(table, AliasConfig, where)
    for slug in alias.models:
        provider, _, model = slug.replace(":", "/").partition("/")
        if not provider or not model:
            raise file.error(where, "models", f"{slug!r} is not a model; write provider/name")
        # Providers that come and go with a key or a model file are known also while they are away.
        if provider not in known:
            raise file.error(where, "models", f"{slug!r}: there is no provider {provider!r}")
        listed = providers[provider].models if provider in providers else ()
        if listed and model not in {each.replace(":", "/") for each in listed}:
            only = f"{slug!r}: {provider} serves only {', '.join(listed)}"
            raise file.error(where, "models", only)
    return alias


def local_model_path(core: CoreConfig) -> Path | None:
    """Return where the embedded model's file is looked for; None: it is switched off."""
    if core.local_model == "off":
        return None
    if core.local_model:
        try:
            return Path(core.local_model).expanduser()
        except RuntimeError:
            raise ConfigError(
                f"[core] local_model: {core.local_model}: there is no such user; write the full path"
            ) from None
    return core.data_dir / "models" / f"{DEFAULT_LOCAL_MODEL}.gguf"


def local_provider(core: CoreConfig) -> ProviderConfig | None:
    """Return the embedded model as a provider; None: switched off, no file, or no llama.cpp (extra `local`)."""
    path = local_model_path(core)
    if path is None or not _is_file(path) or importlib.util.find_spec("xllamacpp") is None:
        return None
    return ProviderConfig(
        kind="openai",
        base_url=f"http://127.0.0.1:{core.local_port}/v1",
        models=(path.stem.lower(),),
        unpriced="free",
        # A long prompt is read at some hundred tokens a second by two cores.
        timeouts=Timeouts(first_token_s=300.0),
    )


def _is_file(path: Path) -> bool:
    # A folder that this user may not read counts as empty; the command that needs the folder reports it.
    try:
        return path.is_file()
    except OSError:
        return False
