"""The client's side of SOCKS5 (RFC 1928), with user name and password (RFC 1929)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import msgspec

from maniac_core.providers.transport.dial import resolve

_VERSION = 5
_CONNECT = 1
_NO_AUTHENTICATION = 0
_PASSWORD = 2
_PASSWORD_VERSION = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
_PORT_BYTES = 2
_LONGEST = 255
_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "CONNECT not supported",
    8: "address type not supported",
}


class Login(msgspec.Struct, frozen=True):
    """User name and password for a proxy, as bytes."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        """Show neither."""
        return "<Login>"


class SocksError(Exception):
    """The proxy refused, or its answer is not SOCKS5; the message continues "proxy HOST:PORT"."""


async def connect(
    sock: socket.socket, host: str, port: int, login: Login | None, *, resolves_here: bool
) -> None:
    """Ask the proxy at the other end of `sock` to connect it to `host`, a name or an IP address.

    With `resolves_here` the proxy gets an address of the name, else the name.
    Reads no byte beyond the proxy's answers.

    Raises:
        SocksError: it refused, or answered nonsense.
        socket.gaierror: a name that is resolved here has no address.
        OSError: it went away.

    """
    address = await _resolved(host, port) if resolves_here else host
    await _agree(sock, login)
    await _send(sock, bytes((_VERSION, _CONNECT, 0)) + _encoded(address) + port.to_bytes(2))
    version, status, _, kind = await _read(sock, 4)
    if version != _VERSION:
        raise SocksError("did not answer in SOCKS5")
    if status:
        reason = _REFUSALS.get(status, f"unknown status {status}")
        raise SocksError(f"did not connect to {host}:{port}: {reason}")
    # Where it connected from; nobody needs to know.
    if kind == _NAME:
        length = (await _read(sock, 1))[0]
    elif kind in _ADDRESS_BYTES:
        length = _ADDRESS_BYTES[kind]
    else:
        raise SocksError("did not answer in SOCKS5")
    await _read(sock, length + _PORT_BYTES)


async def _resolved(host: str, port: int) -> str:
    addresses = await resolve(host, port)
    # IPv4 first: the resolver's order says what this machine can reach, and more proxies lack IPv6 than IPv4.
    first = min(addresses, key=lambda address: address[0] != socket.AF_INET)
    return str(first[4][0])


async def _agree(sock: socket.socket, login: Login | None) -> None:
    """Choose how to log in, and do so."""
    methods = bytes((_NO_AUTHENTICATION,) if login is None else (_NO_AUTHENTICATION, _PASSWORD))
    await _send(sock, bytes((_VERSION, len(methods))) + methods)
    version, method = await _read(sock, 2)
    if version != _VERSION:
        raise SocksError("did not answer in SOCKS5")
    if method == _NO_AUTHENTICATION:
        return
    if login is None:
        raise SocksError(
            "wants a login: write USER:PASSWORD@ before its host in the proxy variable"
        )
    if method != _PASSWORD:
        raise SocksError("takes no user name and password")
    if len(login.user) > _LONGEST or len(login.password) > _LONGEST:
        raise SocksError(f"takes at most {_LONGEST} bytes of user name and of password")
    parts = (login.user, login.password)
    await _send(
        sock, bytes((_PASSWORD_VERSION,)) + b"".join(bytes((len(part),)) + part for part in parts)
    )
    _, status = await _read(sock, 2)
    if status:
        raise SocksError("refused the user name and password")


def _encoded(host: str) -> bytes:
    """Return the type and the bytes of an address or a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > _LONGEST:
            raise SocksError(f"takes names of at most {_LONGEST} bytes") from None
        return bytes((_NAME, len(name))) + name
    return bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed


async def _send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


async def _read(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes and none more, since the next ones belong to the upstream."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise SocksError("closed the connection within its answer")
        data += piece
    return data
