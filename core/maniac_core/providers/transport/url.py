"""Absolute URLs, split once into what connecting to and addressing an upstream needs."""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

import msgspec

_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONTROL_OR_SPACE = re.compile(r"[\x00-\x20\x7f]")
_HOST = re.compile(r"[a-z0-9._~!$&'()*+,;=-]+")
# Everything RFC 3986 allows in a path and query, plus what lenient servers accept there.
_SAFE_IN_TARGET = "%/:=&?~+!$,;'@()*[]|{}^`\\\"<>"


class Target(msgspec.Struct, frozen=True):
    """Where a URL points to, and how its request line and Host header are spelt."""

    scheme: str
    host: str
    """Lower-cased name or IP address, IPv6 without its brackets."""
    port: int
    origin: str
    """`scheme://host:port`, always with the port: the key of the pool, and safe in messages."""
    authority: str
    """The Host header: no default port, IPv6 in brackets."""
    path: str
    """Path and query, at least `/`."""
    authorization: str | None
    """`Basic …` made of the URL's userinfo, which appears nowhere else."""

    def __repr__(self) -> str:
        """Name the origin only: path and userinfo may hold credentials."""
        return f"<Target {self.origin}>"


@functools.lru_cache(maxsize=1024)
def parse_url(url: str) -> Target:
    """Split an absolute http or https URL.

    Raises:
        ValueError: the URL cannot be requested; the text does not repeat the URL.

    """
    # urlsplit drops tabs and newlines without a word; a request line must not depend on that.
    if _CONTROL_OR_SPACE.search(url):
        raise ValueError("URL contains a space or a control character")
    try:
        parts = urlsplit(url)
    except ValueError:
        # The original text repeats the host, with its userinfo.
        raise ValueError("URL is malformed") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("URL is neither http:// nor https://")
    host = _host(parts)
    port = port_of(parts) or _DEFAULT_PORTS[parts.scheme]
    bracketed = f"[{host}]" if ":" in host else host
    is_default = port == _DEFAULT_PORTS[parts.scheme]
    path = parts.path or "/"
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port,
        origin=f"{parts.scheme}://{bracketed}:{port}",
        authority=bracketed if is_default else f"{bracketed}:{port}",
        path=quote(f"{path}?{parts.query}" if parts.query else path, safe=_SAFE_IN_TARGET),
        authorization=basic_authorization(parts),
    )


def port_of(parts: SplitResult) -> int | None:
    """Return the port written in a URL, None if there is none.

    Raises:
        ValueError: it is not a port number.

    """
    try:
        port = parts.port
    except ValueError:
        # The original text repeats the input, which may be part of a password.
        raise ValueError("URL has an invalid port") from None
    if port == 0:
        raise ValueError("URL has an invalid port")
    return port


def basic_authorization(parts: SplitResult) -> str | None:
    """Return the `Basic` credentials of a URL's userinfo, None if it has none."""
    if parts.username is None:
        return None
    user = unquote_to_bytes(parts.username)
    password = unquote_to_bytes(parts.password or "")
    return "Basic " + base64.b64encode(user + b":" + password).decode("ascii")


def _host(parts: SplitResult) -> str:
    host = parts.hostname
    if not host:
        raise ValueError("URL has no host")
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("URL has an invalid IPv6 address") from None
        return host
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii").lower()
        except UnicodeError:
            raise ValueError("URL has an invalid host name") from None
    # For longer or empty labels the resolver raises an exception other than OSError.
    labels = host.removesuffix(".").split(".")
    if not _HOST.fullmatch(host) or not all(0 < len(label) < 64 for label in labels):
        raise ValueError("URL has an invalid host name")
    return host
