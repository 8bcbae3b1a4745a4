"""Configuration of the edge: the `[edge]` table of the file, and environment overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from maniac_common.config_file import ConfigFile, from_environ
from maniac_common.telemetry import metrics_address

from maniac_edge.core_address import parse_target

_PREFIX = "MANIAC_EDGE__"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,]+")
# Lists, which the environment separates by commas.
_LISTS = {"trusted_proxies", "cors_origins"}
_TABLES = ("core", "edge", "providers", "aliases")

# Ranges of the configuration's numbers.
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class EdgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `[edge]` table."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 4000
    """Port to listen on; 0: any free one."""
    core: str = "unix:data/core.sock"
    """The cores, as a gRPC target: `unix:PATH`, `HOST:PORT` or `dns:///HOST:PORT` with every address that the name has, or
    a list of addresses as `ipv4:ADDRESS:PORT,ADDRESS:PORT`."""
    core_ca: Path | None = None
    """Authorities (PEM) one of which has signed the cores' certificates; unset: the connection is plaintext."""
    core_cert: Path | None = None
    """Certificate chain (PEM) that the edge shows to cores that ask for one."""
    core_key: Path | None = None
    """Private key (PEM) of that certificate."""
    edge_key_env: str = "MANIAC_EDGE_KEY"
    """Name of the environment variable with the secret that the edge shares with cores on other machines."""
    max_body_bytes: _Positive = 32 * 1024 * 1024
    """Largest request body."""
    max_file_bytes: _Positive = 2 * 1024 * 1024 * 1024
    """Largest uploaded file."""
    max_register_bytes: _Positive = 128 * 1024 * 1024
    """Largest body of a registration of examples; one item may have max_body_bytes."""
    max_json_values: _Positive = 200_000
    """Most values, of all kinds and depths, in a JSON body, or in one item of a registration."""
    max_json_depth: _Positive = 128
    """Deepest nesting of a JSON body."""
    max_messages: _Positive = 10_000
    """Most messages of a chat request."""
    max_parts: _Positive = 10_000
    """Most content parts in all messages of a chat request together."""
    max_tools: _Positive = 1_000
    """Most tools of a chat request."""
    max_connections: _Positive = 10_000
    """Most connections at a time."""
    max_connections_per_address: _Positive = 1_000
    """Most connections at a time from one address other than a trusted proxy's."""
    body_timeout_s: _Seconds = 120.0
    """How long a JSON body may take to arrive, in seconds."""
    unread_timeout_s: _Seconds = 120.0
    """How long a client may take nothing of its answer before its connection is closed, in seconds."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks or addresses whose X-Forwarded-For or Forwarded tells the client's address."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the API from a browser; `*`: any."""
    keep_alive_comment_s: _Seconds = 15.0
    """A stream that was silent for this long gets a comment line, in seconds."""
    completion_timeout_s: _Seconds = 900.0
    """Deadline of a completion, in seconds; above what the core allows its providers in all."""
    file_timeout_s: _Seconds = 3600.0
    """Deadline of the upload or download of a file, and of a registration of examples, in seconds."""
    read_timeout_s: _Seconds = 30.0
    """Deadline of every other call of the core, in seconds."""
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """How long after SIGTERM requests are still taken, while /readyz says 503, in seconds."""
    grace_s: Annotated[int, msgspec.Meta(ge=0)] = 20
    """How long running answers may take after that, in seconds."""
    strict_requests: bool = False
    """Whether a chat request with an unknown key is refused with 422, instead of passing the key on."""
    metrics_listen: str = ""
    """Address of a listener of its own for Prometheus, `HOST:PORT`; empty: none, and nothing is measured."""
    log_format: Literal["auto", "json", "pretty"] = "auto"
    """`auto`: pretty on a terminal."""

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        parse_target(self.core)
        if (self.core_cert is None) != (self.core_key is None):
            raise ValueError("`core_cert` and `core_key` belong together: set both or neither")
        if self.core_cert is not None and self.core_ca is None:
            raise ValueError("`core_cert` needs `core_ca`: without it the connection has no TLS")
        for network in self.trusted_proxies:
            ip_network(network, strict=False)
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors_origins: {origin!r} is not SCHEME://HOST[:PORT], nor *")
        if self.metrics_listen:
            metrics_address(self.metrics_listen)


def load(path: Path | None, environ: Mapping[str, str], **overrides: Any) -> EdgeConfig:
    """Read the file, apply `MANIAC_EDGE__KEY` variables, then `overrides` that are not None.

    Raises:
        ConfigError: the file is missing, not TOML, or has an unknown key or a wrong type.
    """
    file = ConfigFile(path, _TABLES)
    variables: dict[str, Any] = from_environ(_PREFIX, EdgeConfig, environ)
    for key in _LISTS & variables.keys():
        variables[key] = [part for part in map(str.strip, variables[key].split(",")) if part]
    given = {key: value for key, value in overrides.items() if value is not None}
    sources = {key: f"{_PREFIX}{key.upper()}" for key in variables}
    sources |= {key: f"--{key}" for key in given}
    return file.convert({**file.table("edge"), **variables, **given}, EdgeConfig, "edge", sources)
