"""Configuration of the core: one TOML file, environment overrides, secrets by reference only."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from maniac_common.config_file import ConfigError as ConfigError  # noqa: PLC0414 - known from here
from maniac_common.config_file import ConfigFile, from_environ
from maniac_common.telemetry import metrics_address

from maniac_core.config.checks import check_base_url, check_url, check_variable
from maniac_core.config.scripted import ScriptedRule

# Ranges of the configuration's numbers.
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_SMALLEST_POOL = 4
_LONGEST_ALIAS = 128
_NOT_IN_ALIASES = re.compile(r"[/: ]|^$")
_OBJECT_STORE = re.compile(r"s3://[^/]+(/.*)?$|file:///.")

# Providers that appear without any file when their key is in the environment: name -> (kind, base_url, variable).
KNOWN_PROVIDERS: dict[str, tuple[Literal["openai", "anthropic", "gemini"], str, str]] = {
    "openai": ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "openrouter": ("openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "gemini": ("gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
}

DEFAULT_LOCAL_MODEL = "smollm2-135m-instruct"
"""The model that `maniac-gateway pull` fetches and `serve` serves by default."""
LOCAL_PROVIDER = "local"
"""First part of the embedded model's slug."""
RELAY_SUFFIX = ".hop"
DEMO_PROVIDER = "demo"
"""The scripted provider that `serve` offers when there is no other."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; a key that is not a field is refused by name."""


class Timeouts(_Table, frozen=True):
    """Deadlines of one upstream call, in seconds."""

    connect_s: _Seconds = 5.0
    """Until the connection stands, TLS included."""
    first_token_s: _Seconds = 60.0
    """From the call until the first content of a stream. Whole answers show nothing before they are generated, so
    for them only `total_s` counts."""
    idle_s: _Seconds = 60.0
    """Between two events of a stream, comments not counted; between two pieces of a whole answer."""
    total_s: _Seconds = 600.0
    """For the whole call of one candidate."""


class ProviderConfig(_Table, frozen=True):
    """One upstream. Its table name is the first part of its models' slugs."""

    kind: Literal["openai", "anthropic", "gemini", "scripted"]
    """Wire dialect; `scripted` calls nobody and answers by `rules`, see docs/scripted.md."""
    base_url: str = ""
    """Where it listens; the openai kind includes the version (`https://host/v1`). Required, but for the scripted
    kind, where it only says whose habits to follow."""
    api_key_env: str | tuple[str, ...] | None = None
    """Name of the environment variable that holds the key, or several that are used in turn; none for servers
    without keys."""
    models: tuple[str, ...] = ()
    """Names it serves; empty: any name is passed through."""
    max_retries: _Count = 2
    """Further tries on this upstream before falling back."""
    breaker: bool = True
    """Whether to stop calling a model for a while after it failed repeatedly, and all of them when no connection to the
    provider can be made."""
    timeouts: Timeouts = Timeouts()
    unpriced: Literal["refuse", "allow", "free"] = "refuse"
    """What becomes of its models of unknown price: callers with a budget may not use them; may, and what these cost is
    in no budget; or they cost nothing, as on a machine of one's own."""
    rules: tuple[ScriptedRule, ...] = ()
    """How the scripted kind answers; the first rule that matches is used."""

    def __post_init__(self) -> None:
        """Refuse what the kind rules out."""
        if self.kind != "scripted":
            if not self.base_url:
                raise ValueError("Object missing required field `base_url`")
            if self.rules:
                raise ValueError("`rules` belongs to kind `scripted` only")
            check_base_url("base_url", self.kind, self.base_url)
        for name in key_variables(self):
            check_variable("api_key_env", name, "OPENAI_API_KEY")


class AliasConfig(_Table, frozen=True):
    """A name of its own for models that stand in for each other. Its table name is the whole slug."""

    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Slugs `provider/name`: the first is called, the others are its fallbacks in this order."""
    weights: tuple[_Count, ...] = ()
    """One per model: how often it is the first, in proportion; 0: as a fallback only. Empty: always in order."""

    def __post_init__(self) -> None:
        """Refuse what cannot be chosen from."""
        if len(set(self.models)) < len(self.models):
            raise ValueError("`models` names one twice")
        if self.weights and len(self.weights) != len(self.models):
            raise ValueError("`weights` needs one number for each of `models`")
        if self.weights and not sum(self.weights):
            raise ValueError("`weights` are all 0")


class CoreConfig(_Table, frozen=True):
    """The `[core]` table."""

    data_dir: Path = Path("data")
    """Where the database, the socket, the models and the files lie."""
    database_url: str = "sqlite"
    """`sqlite`: one file in data_dir; `postgresql://USER@HOST/DATABASE`: a server, for several cores."""
    database_pool: int = 10
    """Connections to PostgreSQL that a core may hold; at least 4, three of which have work of their own."""
    database_timeout_s: _Seconds = 10.0
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
    grpc_max_streams: _Positive = 1000
    """Calls that one connection to the gRPC port may have under way."""
    reflection: bool | None = None
    """Whether the gRPC port describes its services to callers with a key; unset: only on a loopback address."""
    socket: Path | None = None
    """Unix socket for edges on this machine; unset: `core.sock` in data_dir. One for their streams is beside it, with
    the suffix `.hop`."""
    rate_limit: _Count = 600
    """Requests per window and organization; 0: no limit."""
    rate_window_s: _Positive = 60
    """Length of the window, in seconds."""
    concurrent_requests: _Count = 0
    """Chat requests of one organization that may run in a core at the same time; 0: no limit."""
    concurrent_requests_per_project: _Count = 0
    """The same for one project, besides its organization's."""
    concurrent_requests_per_key: _Count = 0
    """The same for one key, besides its project's."""
    token_limit: _Count = 0
    """Tokens per window and organization, prompt and answer together; 0: no limit."""
    redis_url: str = ""
    """Redis or Valkey that counts the windows of several cores; empty: each core counts by itself."""
    redis_timeout_ms: _Positive = 250
    """How long its answers may take; after that requests are let through uncounted, until it answers again."""
    durability: Literal["strict", "available"] = "strict"
    """What happens to an answer whose record cannot be committed. `strict`: the request fails with 503. `available`: it
    is answered, and the record waits in `spool` in data_dir until the database takes it."""
    key_grace_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """How long keys that were used before go on being accepted while the database is away, in seconds. 0: not at all,
    requests are a 503; a key that is revoked meanwhile is accepted until the grace ends."""
    project_max_completions: _Count = 0
    """Completions with content that a project may hold, registered examples included; 0: no quota."""
    project_max_file_bytes: _Count = 0
    """Bytes of files that a project may hold; 0: no quota."""
    text_index: bool = False
    """Whether the texts of requests and answers are indexed, which makes datasets by a rare text quick. SQLite keeps the
    texts once more for it; PostgreSQL needs its extension pg_trgm."""
    body_key_env: str = "MANIAC_BODY_KEY"
    """Name of the environment variable with the keys that requests and answers are encrypted with at rest, 32 bytes in
    base64 each, with commas between them: the first one encrypts, all decrypt. Unset variable: not encrypted."""
    body_retention_days: _Count = 0
    """After how many days requests and answers are deleted; the ledger and datasets keep what they have. 0: never."""
    sqlite_synchronous: Literal["normal", "full"] = "normal"
    """`normal` survives the death of any process; `full` also a power cut, at one fsync per commit."""
    max_message_bytes: _Positive = 64 * 1024 * 1024
    """Largest gRPC message; above the edge's max_body_bytes."""
    max_file_bytes: _Positive = 2 * 1024 * 1024 * 1024
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
        known = KNOWN_PROVIDERS.get(name) if table.get("kind") != "scripted" else None
        defaults: dict[str, Any] = {}
        if known:
            defaults = {"kind": known[0], "api_key_env": known[2]}
            if "base_url" not in table:
                defaults["base_url"] = known_base_url(name, environ)
        providers[name] = file.convert({**defaults, **table}, ProviderConfig, where)
    for name, (kind, _, variable) in KNOWN_PROVIDERS.items():
        if name not in providers and environ.get(variable):
            base_url = known_base_url(name, environ)
            providers[name] = ProviderConfig(kind=kind, base_url=base_url, api_key_env=variable)
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


def known_base_url(name: str, environ: Mapping[str, str]) -> str:
    """Return where a known provider listens: what its `…_BASE_URL` variable says, else its own address.

    Raises:
        ConfigError: the variable holds no URL.
    """
    kind, base_url, key_variable = KNOWN_PROVIDERS[name]
    variable = key_variable.replace("_API_KEY", "_BASE_URL")
    given = environ.get(variable, "").strip()
    try:
        check_base_url(variable, kind, given or base_url)
    except ValueError:
        # Unprinted: it may hold a credential.
        raise ConfigError(f"{variable} does not hold a URL such as {base_url}") from None
    return given or base_url


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


def demo_provider() -> ProviderConfig:
    """Return the provider that repeats what it is sent, for a gateway that has no other."""
    return ProviderConfig(kind="scripted", models=("echo",), unpriced="free")


def _is_file(path: Path) -> bool:
    # A folder that this user may not read counts as empty; the command that needs the folder reports it.
    try:
        return path.is_file()
    except OSError:
        return False


def key_variables(provider: ProviderConfig) -> tuple[str, ...]:
    """Return the names of the environment variables with the provider's keys."""
    names = provider.api_key_env or ()
    return (names,) if isinstance(names, str) else names


def variables_of(provider: ProviderConfig) -> str:
    """Return the names of the variables that may hold the provider's key, for a sentence; "" where it takes none."""
    names = provider.api_key_env or ()
    return names if isinstance(names, str) else " or ".join(names)


def resolve_keys(
    provider: ProviderConfig, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return the provider's keys that are set in the environment."""
    return tuple(value for name in key_variables(provider) if (value := environ.get(name)))
