"""The meaning of `base_url` for each kind of provider, and the probable mistake in one that does not work."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_VERSION = re.compile(r"/v\d+[a-z\d]*(/|$)")
_OPENAI = re.compile(r"/(chat/completions|completions|responses|models)$")
_ENDPOINTS = {
    "openai": _OPENAI,
    "openai-responses": _OPENAI,
    "anthropic": re.compile(r"(/v1)?/(messages|models)$"),
    "gemini": re.compile(r"(/v\d+[a-z\d]*)?/models(/.*)?$"),
}


def openai_url(base_url: str, path: str) -> str:
    """Return the URL of an endpoint such as `/chat/completions`: base_url has the version, and perhaps a query."""
    parts = urlsplit(base_url)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()


def anthropic_url(base_url: str, path: str) -> str:
    """Return the URL of an endpoint such as `/messages`: base_url may end with its version, `/v1`."""
    base = base_url.rstrip("/")
    return base + path if base.endswith("/v1") else f"{base}/v1{path}"


def gemini_url(base_url: str, path: str) -> str:
    """Return the URL of an endpoint such as `/models`: base_url may have a version anywhere, as Vertex AI's has."""
    base = base_url.rstrip("/")
    return base + path if _VERSION.search(base) else f"{base}/v1beta{path}"


def shown_url(url: str) -> str:
    """Return a URL without userinfo and query, which may hold credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def base_url_hint(kind: str, base_url: str) -> str | None:
    """Return what is probably wrong with a base_url behind which nothing was found; None: nothing that shows.

    Never repeats userinfo or a query, which may hold credentials.
    """
    path = urlsplit(base_url).path.rstrip("/")
    endpoint = _ENDPOINTS[kind].search(path) if kind in _ENDPOINTS else None
    if endpoint is not None:
        return f"base_url holds the path of an endpoint; leave out {endpoint[0]}"
    if kind in ("openai", "openai-responses") and _VERSION.search(path) is None:
        return "base_url may lack its version, such as /v1"
    return None
