"""Where the cores are: what `[edge] core` may say, and the addresses behind it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable

import msgspec

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/,\[\]]+):(?P<port>[0-9]{1,5})")
_PARSERS: dict[str, Callable[[str], ipaddress.IPv4Address | ipaddress.IPv6Address]] = {
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
}


class CoreTarget(msgspec.Struct, frozen=True):
    """The cores of an edge."""

    channel: str
    """gRPC target of a channel to all of them."""
    fixed: tuple[str, ...] = ()
    """gRPC target of each one; empty: the name tells."""
    name: tuple[str, int] | None = None
    """Host name and port to look up; certificates are for the name, not for the addresses behind it."""

    async def addresses(self) -> tuple[str, ...]:
        """Return a gRPC target for each core that there is now.

        Raises:
            OSError: the name cannot be looked up.
        """
        if self.name is None:
            return self.fixed
        found = await asyncio.get_running_loop().getaddrinfo(*self.name, type=socket.SOCK_STREAM)
        # A core with addresses of both families is still one core.
        families = {entry[0] for entry in found}
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        form = "ipv4:{}:{}" if family == socket.AF_INET else "ipv6:[{}]:{}"
        # In the order in which they came, each once.
        return tuple(
            dict.fromkeys(
                form.format(address[0], address[1])
                for entry_family, _, _, _, address in found
                if entry_family == family
            )
        )


def parse_target(text: str) -> CoreTarget:
    """Read `unix:PATH`, `HOST:PORT`, `dns:///HOST:PORT`, or a list: `ipv4:A:P,A:P`, `ipv6:[A]:P,[A]:P`.

    Raises:
        ValueError: it is invalid; the message says why.
    """
    scheme, _, rest = text.partition(":")
    if scheme == "unix":
        if not rest.strip("/"):
            raise ValueError(f"core: {text!r} names no socket")
        return CoreTarget(text, fixed=(text,))
    if scheme in _PARSERS:
        listed = tuple(f"{scheme}:{_address(scheme, one)}" for one in rest.split(","))
        if len(set(listed)) < len(listed):
            raise ValueError(f"core: {text!r} names an address twice")
        return CoreTarget(text, fixed=listed)
    if scheme == "dns":
        host, port = _host_and_port(rest.removeprefix("///"))
        return CoreTarget(text, name=(host, port))
    if "," in text:
        raise ValueError(
            f"core: {text!r}: write a list as ipv4:ADDRESS:PORT,ADDRESS:PORT, or one name with several addresses as dns:///NAME:PORT"
        )
    host, port = _host_and_port(text)
    return CoreTarget(f"dns:///{text}", name=(host, port))


def _address(scheme: str, text: str) -> str:
    host, port = _host_and_port(text)
    try:
        _PARSERS[scheme](host)
    except ValueError:
        raise ValueError(
            f"core: {host!r} is not an {scheme.replace('ip', 'IP')} address; for a host name use dns:///NAME:PORT"
        ) from None
    return f"[{host}]:{port}" if scheme == "ipv6" else f"{host}:{port}"


def _host_and_port(text: str) -> tuple[str, int]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"core: {text!r} is not HOST:PORT")
    port = int(match["port"])
    if not 0 < port < 65536:
        raise ValueError(f"core: {port} is not a port, a number from 1 to 65535")
    return match["host"].strip("[]"), port
