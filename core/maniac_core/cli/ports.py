"""Ports on this machine: free, taken, or to be chosen."""

from __future__ import annotations

import errno
import socket

from maniac_core.config import ConfigError


def claim(host: str, port: int, option: str) -> int:
    """Return the port, or any free one for 0.

    Raises:
        ConfigError: it is taken or not allowed, or the host is none of this machine; the message names the option.
    """
    problem, free = _try(host, port)
    if problem is not None:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {problem}; choose another with {option}"
        )
    return free


def is_free(host: str, port: int) -> bool:
    """Whether the port can be listened on now."""
    return _try(host, port)[0] is None


def _try(host: str, port: int) -> tuple[str | None, int]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of an earlier process that are still closing do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return None, int(probe.getsockname()[1])
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            return "the port is taken", port
        return (err.strerror or str(err)).lower(), port
