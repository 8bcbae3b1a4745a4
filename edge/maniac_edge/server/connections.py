"""Connections: how many there are, in all and from each address."""

from __future__ import annotations

from maniac_edge.config import EdgeConfig
from maniac_edge.http.proxies import Proxies


class Connections:
    """Counts the connections of this process. Those of trusted proxies count in all, since many clients share them."""

    def __init__(self, config: EdgeConfig) -> None:
        self._limit = config.max_connections
        self._limit_per_address = config.max_connections_per_address
        self._proxies = Proxies(config.trusted_proxies)
        self._count = 0
        self._by_address: dict[str, int] = {}

    def add(self, address: str) -> str | None:
        """Count one; return why it is refused, if it is. Also a refused one is to be removed."""
        self._count += 1
        count = self._by_address[address] = self._by_address.get(address, 0) + 1
        if self._count > self._limit:
            return f"The gateway has {self._limit} connections, and takes no more at present."
        if count > self._limit_per_address and address not in self._proxies:
            return f"There are {self._limit_per_address} connections from this address, which is the limit."
        return None

    def remove(self, address: str) -> None:
        """Forget one."""
        self._count -= 1
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
