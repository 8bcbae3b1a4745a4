"""The OpenAPI document, and a page to read it in."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response

from maniac_edge.http.operation import operation
from maniac_edge.http.responses import encode

# The page may load its own document and nothing else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Root(msgspec.Struct):
    """Where everything is."""

    name: str = "Maniac Gateway"
    api: str = "/v1"
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    health: str = "/healthz"


_ROOT = encode(Root())
_ROOT_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Maniac Gateway</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em}</style>
<h1>Maniac Gateway</h1>
<p>The API is at <code>/v1</code>; it wants a key: <code>Authorization: Bearer KEY</code>.</p>
<ul><li><a href="/docs">Reference</a><li><a href="/openapi.json">OpenAPI description</a>
<li><a href="/readyz">Is it ready?</a></ul></html>
"""


@operation("GET", "/", tag="Reference", response=Root, is_public=True)
async def root(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Where everything is.

    As a page for browsers.
    """
    # Browsers ask for HTML by name; other clients get the same as JSON.
    if "text/html" in request.headers.get("accept", ""):
        return _page(_ROOT_PAGE)
    return Response(_ROOT, media_type="application/json")


@operation(
    "GET",
    "/openapi.json",
    tag="Reference",
    response=dict[str, Any],
    response_description="OpenAPI 3.1.",
    is_public=True,
)
async def openapi(document: bytes) -> Response[bytes]:
    """This document."""
    return Response(document, media_type="application/json")


@operation(
    "GET",
    "/docs",
    tag="Reference",
    response=str,
    media_type="text/html",
    response_description="A page that loads nothing from elsewhere.",
    is_public=True,
)
async def docs() -> Response[bytes]:
    """This document as a page."""
    return _page(_read_reference())


def _page(content: bytes) -> Response[bytes]:
    return Response(content, media_type="text/html", headers={"content-security-policy": _POLICY})


@cache
def _read_reference() -> bytes:
    return files("maniac_edge").joinpath("reference.html").read_bytes()


HANDLERS = (root, openapi, docs)
