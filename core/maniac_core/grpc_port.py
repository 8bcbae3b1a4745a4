"""The gRPC server: its options, and where it listens: the Unix socket of edges, and the port, with TLS if configured."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from maniac_core.config.core import CoreConfig
from maniac_core.config.edge_access import read_pem
from maniac_core.rpc.boundary.register import service_names
from maniac_core.rpc.health import HealthServicer


def make_server(config: CoreConfig, *interceptors: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
    """Return a server that has no services yet."""
    return grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.max_concurrent_streams", config.grpc_max_streams),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            # One answer that is too large must not break the stream that carries all others.
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000),
            ("grpc.so_reuseport", 0),
        ],
    )


def add_health_and_reflection(
    server: grpc.aio.Server, config: CoreConfig, servicer: HealthServicer
) -> None:
    """Add the services that are not of the contract."""
    # Both are published without annotations.
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    if _shows_reflection(config):
        reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
            (*service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )


def _shows_reflection(config: CoreConfig) -> bool:
    """Whether the port describes its services: as configured, else only where none but this machine can reach it."""
    if config.reflection is not None:
        return config.reflection
    host = config.listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(server: grpc.aio.Server, config: CoreConfig) -> None:
    """Add the Unix socket and the port, which is over TLS if there is a certificate.

    Raises:
        ConfigError: a certificate, a key or an authority cannot be read.
        OSError: one cannot be listened on.
    """
    path = config.socket_path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_dead_socket(path)
    _add(server, f"unix:{path}")
    _add(server, config.listen, config)


def _add(server: grpc.aio.Server, address: str, config: CoreConfig | None = None) -> None:
    """Add an address; with `config`, over TLS if it names a certificate.

    Raises:
        ConfigError: a certificate, a key or an authority cannot be read.
        OSError: the address cannot be listened on.
    """
    try:
        if config is None or config.tls_cert is None or config.tls_key is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _credentials(config))
    except RuntimeError as err:
        raise OSError(f"cannot listen on {address}") from err
    if not bound:
        raise OSError(f"cannot listen on {address}")


def _credentials(config: CoreConfig) -> grpc.ServerCredentials:
    assert config.tls_cert is not None
    assert config.tls_key is not None
    authorities = config.tls_client_ca
    return grpc.ssl_server_credentials(
        [(read_pem(config.tls_key, "tls_key"), read_pem(config.tls_cert, "tls_cert"))],
        root_certificates=None if authorities is None else read_pem(authorities, "tls_client_ca"),
        require_client_auth=authorities is not None,
    )


def remove_dead_socket(path: Path) -> None:
    """Remove a socket that nobody listens on any more.

    Raises:
        OSError: another core listens on it.
    """
    if not path.exists():
        return
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(str(path))
    except OSError:
        path.unlink()
    else:
        raise OSError(f"another core serves {path}")
    finally:
        probe.close()
