"""Which proxy an upstream is reached through, after the conventional environment variables."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Mapping
from typing import Literal
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import msgspec

from maniac_core.providers.transport import socks5
from maniac_core.providers.transport.base import TransportError, TransportErrorKind
from maniac_core.providers.transport.url import Target, basic_authorization, port_of

_MAX_CONNECT_HEAD_BYTES = 16_384
_DEFAULT_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}
_CONNECT_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class Proxy(msgspec.Struct, frozen=True):
    """A proxy and the credentials it wants."""

    host: str
    port: int
    kind: Literal["http", "socks5", "socks5h"] = "http"
    """`socks5`: names are resolved here; `socks5h`: by the proxy."""
    authorization: str | None = None
    """What an HTTP proxy gets."""
    login: socks5.Login | None = None
    """What a SOCKS proxy gets."""

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
            TransportError: PROXY, when the variable does not name a proxy that can be used.

        """
        url = self._urls[target.scheme]
        if not url or any(_matches(entry, target) for entry in self._exceptions if entry):
            return None
        return _parse_proxy(url)


async def open_tunnel(sock: socket.socket, proxy: Proxy, target: Target) -> None:
    """Ask the proxy at the other end of `sock` to connect it to the target.

    Raises:
        TransportError: PROXY, when it refuses or answers nonsense; DNS, when the target's name has no address.
        OSError: the proxy went away.

    """
    if proxy.kind == "http":
        await _open_http_tunnel(sock, proxy, target)
        return
    resolves_here = proxy.kind == "socks5"
    try:
        await socks5.connect(
            sock, target.host, target.port, proxy.login, resolves_here=resolves_here
        )
    except socket.gaierror as error:
        raise no_address(target, error) from error
    except socks5.SocksError as error:
        raise _refused(proxy, str(error)) from None


def no_address(target: Target, error: socket.gaierror) -> TransportError:
    """Return the error for a target whose name cannot be resolved."""
    return TransportError(
        TransportErrorKind.DNS, f"{target.origin}: host has no address: {error}", sent=False
    )


async def _open_http_tunnel(sock: socket.socket, proxy: Proxy, target: Target) -> None:
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
    if parts.scheme not in _DEFAULT_PORTS:
        known = ", ".join(f"{scheme}://" for scheme in _DEFAULT_PORTS)
        raise TransportError(
            TransportErrorKind.PROXY,
            f"proxy scheme {parts.scheme!r} is not supported; use one of {known}",
            sent=False,
        )
    if not host:
        raise TransportError(
            TransportErrorKind.PROXY, "the proxy variable names no host", sent=False
        )
    port = port or _DEFAULT_PORTS[parts.scheme]
    if parts.scheme == "http":
        return Proxy(host=host, port=port, authorization=basic_authorization(parts))
    kind: Literal["socks5", "socks5h"] = "socks5h" if parts.scheme == "socks5h" else "socks5"
    return Proxy(host=host, port=port, kind=kind, login=_login(parts))


def _login(parts: SplitResult) -> socks5.Login | None:
    if not parts.username:
        return None
    return socks5.Login(
        user=unquote_to_bytes(parts.username), password=unquote_to_bytes(parts.password or "")
    )


def _refused(proxy: Proxy, what: str) -> TransportError:
    return TransportError(
        TransportErrorKind.PROXY, f"proxy {proxy.host}:{proxy.port} {what}", sent=False
    )
