"""Which callers are edges: they alone may open a relay and say on whose behalf a call is made."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

CLIENT_ADDRESS = "x-maniac-client-address"
"""Metadata: the address of the client that an edge calls for. Ignored from everyone else."""
EDGE_KEY = "x-maniac-edge-key"
"""Metadata: the secret that an edge shares with its cores."""


class EdgeCredential:
    """How an edge proves that it is one.

    On the Unix socket the file's mode is the proof: only the user that runs the core can open it. Over TCP it is the
    shared secret or, if none is configured, a client certificate that the port requires.
    """

    def __init__(self, secret: str | None, *, requires_certificate: bool) -> None:
        self._secret = secret.encode() if secret else None
        self._requires_certificate = requires_certificate

    def is_edge(self, metadata: Mapping[str, Any], *, is_local: bool) -> bool:
        """Whether the caller is an edge. `is_local`: it comes by the Unix socket."""
        if is_local:
            return True
        if self._secret is None:
            return self._requires_certificate
        given = metadata.get(EDGE_KEY)
        return isinstance(given, str) and hmac.compare_digest(given.encode(), self._secret)


def is_local(context: Context) -> bool:
    """Whether a caller comes by the Unix socket."""
    return context.peer().startswith("unix:")


def peer_address(context: Context) -> str:
    """Return the IP address of the other end of the connection; empty on a Unix socket."""
    # `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`, `unix:`.
    family, _, rest = context.peer().partition(":")
    if family not in {"ipv4", "ipv6"}:
        return ""
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
