"""Which proxy an upstream is reached through, after the conventional environment variables."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from maniac_core.providers.transport.base import TransportError, TransportErrorKind
from maniac_core.providers.transport.url import Target, basic_authorization, port_of

_MAX_CONNECT_HEAD_BYTES = 16_384
_CONNECT_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy and the credentials it wants."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        """Leave out the credentials."""
        return f"<Proxy {self.host}:{self.port}>"


class ProxySettings:
    """The proxy variables of an environment, read once.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count in both cases, lower case first.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._urls = {
            scheme: _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
            for scheme in ("http", "https")
        }
        self._exceptions = re.split(r"[\s,]+", _variable(environ, "no_proxy").lower())

    def for_target(self, target: Target) -> Proxy | None:
        """Return the proxy for this target, None to connect directly.

        Raises:
            TransportError: PROXY, when the variable does not name an http proxy.

        """
        url = self._urls[target.scheme]
        if not url or any(_matches(entry, target) for entry in self._exceptions if entry):
            return None
        return _parse_proxy(url)


async def open_tunnel(sock: socket.socket, proxy: Proxy, target: Target) -> None:
    """Ask the proxy at the other end of `sock` to connect it to the target.

    Raises:
        TransportError: PROXY, when it refuses or answers nonsense.
        OSError: the proxy went away.

    """
    loop = asyncio.get_running_loop()
    authority = target.origin.removeprefix(f"{target.scheme}://")
    request = f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n"
    if proxy.authorization is not None:
        request += f"proxy-authorization: {proxy.authorization}\r\n"
    await loop.sock_sendall(sock, f"{request}\r\n".encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(sock, 4096)
        head += data
        if not data or len(head) > _MAX_CONNECT_HEAD_BYTES:
            raise _refused(proxy, "did not answer CONNECT with a complete response head")
    status = _CONNECT_STATUS.match(head)
    if status is None:
        raise _refused(proxy, "did not answer CONNECT with HTTP/1.1")
    if not status[1].startswith(b"2"):
        raise _refused(proxy, f"answered CONNECT to {authority} with status {status[1].decode()}")
    # The upstream waits for our ClientHello, so bytes after the head can only come from a proxy
    # that mixes up its connections.
    if not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") > 1:
        raise _refused(proxy, "sent bytes after its answer to CONNECT")


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _matches(entry: str, target: Target) -> bool:
    """Tell whether one lower-cased `NO_PROXY` entry covers the target."""
    if entry == "*":
        return True
    address = _address(target.host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    host, port = _split_port(entry)
    if port and port != str(target.port):
        return False
    if address is not None:
        return address == _address(host)
    suffix = host.removeprefix("*").removeprefix(".").rstrip(".")
    name = target.host.rstrip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":")
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _parse_proxy(url: str) -> Proxy:
    # Not chained below: what urlsplit raises may repeat a piece of the URL, password included.
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, port_of(parts)
    except ValueError:
        raise TransportError(
            TransportErrorKind.PROXY, "the proxy variable does not hold a URL", sent=False
        ) from None
    if parts.scheme != "http":
        raise TransportError(
            TransportErrorKind.PROXY,
            f"proxy scheme {parts.scheme!r} is not supported, only http:// is",
            sent=False,
        )
    if not host:
        raise TransportError(
            TransportErrorKind.PROXY, "the proxy variable names no host", sent=False
        )
    return Proxy(host=host, port=port or 80, authorization=basic_authorization(parts))


def _refused(proxy: Proxy, what: str) -> TransportError:
    return TransportError(
        TransportErrorKind.PROXY, f"proxy {proxy.host}:{proxy.port} {what}", sent=False
    )
