"""Proxies in front of an edge: which are believed, and what they say of the client's address."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Header = tuple[bytes, bytes]
# `for=` of RFC 7239: a token or a quoted string, in which IPv6 stands in brackets and a port may follow.
_FOR = re.compile(r'(?:^|[;,\s])for="?\[?([^\]",;\s]*)', re.IGNORECASE)


class Proxies:
    """The networks whose word counts."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network, strict=False) for network in networks]
        self._contains = lru_cache(maxsize=4096)(self._look_up)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether an address is one of theirs."""
        return bool(self._networks) and self._contains(address)

    def client_address(self, peer: str, headers: Iterable[Header]) -> str:
        """Return the client: the last address of X-Forwarded-For, or else of Forwarded, that is not a trusted proxy.

        What stands before it was written by nobody who is trusted.
        """
        if peer not in self:
            return peer
        address = peer
        for hop in reversed(_hops(headers)):
            found = _parse(hop)
            if found is None:
                break
            address = str(found)
            if address not in self:
                break
        return address

    def _look_up(self, address: str) -> bool:
        found = _parse(address)
        return found is not None and any(found in network for network in self._networks)


def _hops(headers: Iterable[Header]) -> list[str]:
    forwarded_for: list[str] = []
    forwarded: list[str] = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            forwarded_for += value.decode("latin-1").split(",")
        elif name == b"forwarded":
            forwarded += _FOR.findall(value.decode("latin-1"))
    return forwarded_for or forwarded


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address, without port, brackets and the IPv6 form of an IPv4 one."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
