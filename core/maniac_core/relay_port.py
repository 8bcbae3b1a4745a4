"""Where edges open relays that the event loop itself carries: a socket beside the gRPC port's, and an address if configured.

Edges learn of both from the gRPC port, and stay there if they cannot reach them.
"""

from __future__ import annotations

import contextlib

from maniac_common.hop.server import Server

from maniac_core.config.core import CoreConfig
from maniac_core.config.edge_access import relay_address, server_tls
from maniac_core.grpc_port import remove_dead_socket
from maniac_core.rpc.relay.servicer import RelayServicer


class RelayPort:
    """The listeners."""

    def __init__(self, config: CoreConfig, relay: RelayServicer) -> None:
        self._config = config
        self._relay = relay
        self._path = config.relay_socket_path.absolute()
        self._server = Server(relay.accept, max_message_bytes=config.max_message_bytes)

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address is none, or a certificate, a key or an authority cannot be used.
            OSError: an address cannot be listened on.
        """
        remove_dead_socket(self._path)
        await self._server.listen_unix(str(self._path))
        self._relay.local_offer = self._path.name
        address = relay_address(self._config)
        if address is not None:
            host, port = address
            try:
                bound = await self._server.listen(host, port, server_tls(self._config))
            except OSError as err:
                raise OSError(f"cannot listen on {host}:{port} ([core] relay_listen)") from err
            self._relay.offer = str(bound)

    async def stop(self, grace_s: float) -> None:
        """Take no new streams, and wait `grace_s` seconds for those there are."""
        await self._server.stop(grace_s)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
