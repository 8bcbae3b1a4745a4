"""CoreChannels: how an edge connects to its cores, and what it shows to be taken for an edge."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from maniac_common.config_file import ConfigError

from maniac_edge.config import EdgeConfig
from maniac_edge.core_address import CoreTarget, parse_target

Metadata = tuple[tuple[str, str], ...]
_EDGE_KEY = "x-maniac-edge-key"
_SHORTEST_SECRET = 16

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A core that comes back is found at once; the minimum is the limit of one attempt to connect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 250),
    # A core whose machine or network is gone says nothing: it is given up after both. (A ping has a limit of its own.)
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Bytes that the core may send ahead of a slow reader, per stream. The probe would let it grow to megabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    # An edge of another installation on this machine must not share the connection.
    ("grpc.use_local_subchannel_pool", 1),
)


class CoreChannels:
    """Opens channels to cores."""

    def __init__(self, config: EdgeConfig, environ: Mapping[str, str] = os.environ) -> None:
        """Read certificates and the secret.

        Raises:
            ConfigError: a file cannot be read, or the secret is too short to be one.
        """
        self.target: CoreTarget = parse_target(config.core)
        secret = environ.get(config.edge_key_env)
        if secret and len(secret) < _SHORTEST_SECRET:
            raise ConfigError(
                f"{config.edge_key_env} is shorter than {_SHORTEST_SECRET} characters; "
                "make one with `openssl rand -hex 32`"
            )
        self.credential: Metadata = ((_EDGE_KEY, secret),) if secret else ()
        """Metadata that goes with every call."""
        self._options = _OPTIONS
        self._tls: grpc.ChannelCredentials | None = None
        self.tls: ssl.SSLContext | None = None
        """For connections that are not gRPC's own; None: they are plaintext."""
        self.server_name = self.target.name[0] if self.target.name is not None else None
        """Whose certificates the cores have; None: each has one for its address."""
        if config.core_ca is not None:
            self._tls = grpc.ssl_channel_credentials(
                _read(config.core_ca, "core_ca"),
                None if config.core_key is None else _read(config.core_key, "core_key"),
                None if config.core_cert is None else _read(config.core_cert, "core_cert"),
            )
            self.tls = _context(config)
            if self.server_name is not None:
                # Each core is connected to by its address, and has a certificate for the name.
                self._options += (("grpc.ssl_target_name_override", self.server_name),)

    def open(self, target: str, *options: tuple[str, Any]) -> grpc.aio.Channel:
        """Return a channel to a gRPC target; `options` are added to what all channels have."""
        if self._tls is None or target.startswith("unix:"):
            return grpc.aio.insecure_channel(target, options=(*self._options, *options))
        return grpc.aio.secure_channel(target, self._tls, options=(*self._options, *options))


def _context(config: EdgeConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(config.core_ca)
        if config.core_cert is not None:
            # A key with a passphrase is refused: nobody is there to type it.
            context.load_cert_chain(config.core_cert, config.core_key, password="")
    except ssl.SSLError as err:
        raise ConfigError(
            f"[edge] core_ca, core_cert and core_key cannot be used: {err.reason or err}"
        ) from err
    return context


def _read(path: Path, setting: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ConfigError(f"[edge] {setting}: {path} cannot be read: {err.strerror}") from err
    if b"-----BEGIN " not in data:
        raise ConfigError(f"[edge] {setting}: {path} is not a PEM file")
    return data
