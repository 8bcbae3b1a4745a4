"""What edges on other machines need to reach the gRPC port: the secret they share with it, and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from maniac_core.config.core import ConfigError, CoreConfig

_SHORTEST_SECRET = 16


def edge_secret(config: CoreConfig, environ: Mapping[str, str]) -> str | None:
    """Return the secret that edges on other machines share with the core, if there is one.

    Raises:
        ConfigError: it is too short to be one.
    """
    secret = environ.get(config.edge_key_env) or None
    if secret is not None and len(secret) < _SHORTEST_SECRET:
        raise ConfigError(
            f"{config.edge_key_env} is shorter than {_SHORTEST_SECRET} characters; "
            "make one with `openssl rand -hex 32`"
        )
    return secret


def read_pem(path: Path, setting: str) -> bytes:
    """Return a file of certificates, or of a key.

    Raises:
        ConfigError: it cannot be read, or is not one.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ConfigError(f"[core] {setting}: {path} cannot be read: {err.strerror}") from err
    if b"-----BEGIN " not in data:
        raise ConfigError(f"[core] {setting}: {path} is not a PEM file")
    return data


def relay_address(config: CoreConfig) -> tuple[str, int] | None:
    """Return host and port for relays of edges on other machines; None: there is none.

    Raises:
        ConfigError: `relay_listen` is not `HOST:PORT`.
    """
    if not config.relay_listen:
        return None
    host, _, port = config.relay_listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"[core] relay_listen: {config.relay_listen!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def server_tls(config: CoreConfig) -> ssl.SSLContext | None:
    """Return the TLS of the core's ports; None: they are plaintext.

    Raises:
        ConfigError: one cannot be used, or the key is not that of the certificate.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    read_pem(config.tls_cert, "tls_cert")
    read_pem(config.tls_key, "tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        # A key with a passphrase is refused: nobody is there to type it.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except ssl.SSLError as err:
        raise ConfigError(
            f"[core] tls_cert and tls_key: {config.tls_cert} and {config.tls_key} cannot be used together: "
            f"{err.reason or err}"
        ) from err
    if config.tls_client_ca is not None:
        read_pem(config.tls_client_ca, "tls_client_ca")
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError as err:
            raise ConfigError(
                f"[core] tls_client_ca: {config.tls_client_ca} holds no certificate: {err.reason or err}"
            ) from err
        context.verify_mode = ssl.CERT_REQUIRED
    return context
