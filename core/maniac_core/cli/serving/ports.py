"""Ports on this machine: free, taken, or to be chosen."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import msgspec

from maniac_core.config.core import ConfigError, CoreConfig
from maniac_core.config.edge_access import relay_address

RELAY_OPTION = "[core] relay_listen"
_ABOUT_THE_PORT = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)


class Wish(msgspec.Struct, frozen=True):
    """An address to listen on, and where a person chose it."""

    host: str
    port: int
    """0: any free one."""
    port_option: str
    host_option: str


def relay_wishes(core: CoreConfig) -> list[Wish]:
    """Return the address for relays, if there is one.

    Raises:
        ConfigError: it is not `HOST:PORT`.
    """
    address = relay_address(core)
    return [] if address is None else [Wish(*address, RELAY_OPTION, RELAY_OPTION)]


def claim(wishes: Sequence[Wish]) -> list[int]:
    """Return the port of each, which is free now.

    Raises:
        ConfigError: some cannot be listened on; the message names all of them, each with its option.
    """
    problems, claimed = [], []
    seen: dict[tuple[str, int], str] = {}
    for wish in wishes:
        problem, option, port = _try(wish)
        other = seen.setdefault((wish.host, port), wish.port_option)
        if problem is None and other != wish.port_option:
            problem, option = f"{other} and {wish.port_option} are the same", wish.port_option
        if problem is not None:
            problems.append(
                f"cannot listen on {wish.host}:{wish.port}: {problem}; choose another with {option}"
            )
        claimed.append(port)
    if problems:
        raise ConfigError(". Also: ".join(problems))
    return claimed


def is_free(host: str, port: int) -> bool:
    """Whether the port can be listened on now."""
    return _try(Wish(host, port, "", ""))[0] is None


def _try(wish: Wish) -> tuple[str | None, str, int]:
    """Return what is wrong and the option that mends it, and the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            wish.host or None, wish.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of an earlier process that are still closing do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return None, "", int(probe.getsockname()[1])
    except UnicodeError:
        return "that is not the name of a host", wish.host_option, wish.port
    except OSError as err:
        if err.errno == errno.EADDRINUSE:
            return "the port is taken", wish.port_option, wish.port
        if err.errno in _ABOUT_THE_PORT:
            return "this user may not use the port", wish.port_option, wish.port
        if err.errno == errno.EADDRNOTAVAIL:
            return "this machine has no such address", wish.host_option, wish.port
        if isinstance(err, socket.gaierror):
            return "the name of the host is not known", wish.host_option, wish.port
        return (err.strerror or str(err)).lower(), wish.host_option, wish.port
