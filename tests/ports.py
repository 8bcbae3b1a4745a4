"""Ports for the tests' own servers."""

from __future__ import annotations

import random
import socket

# Below those that systems give to outgoing connections, so that a server that was stopped can come back to its port.
_PORTS = range(15_000, 32_000)
# Other runs draw too, and must not draw the same because something seeded both.
_random = random.SystemRandom()
_claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on, and that no other run gets while this one lasts."""
    found: list[int] = []
    while len(found) < count:
        port = _random.choice(_PORTS)
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                # A name without a file, which goes with the process.
                claim.bind(f"\0maniac-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        found.append(port)
    return found
