"""The HTTP/1.1 client that carries requests to providers."""

from maniac_core.providers.transport.base import (
    Deadlines,
    Transport,
    TransportError,
    TransportErrorKind,
    UpstreamRequest,
    UpstreamResponse,
)
from maniac_core.providers.transport.client import HttpTransport, upstream_transport

__all__ = [
    "Deadlines",
    "HttpTransport",
    "Transport",
    "TransportError",
    "TransportErrorKind",
    "UpstreamRequest",
    "UpstreamResponse",
    "upstream_transport",
]
