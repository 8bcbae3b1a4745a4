"""The OpenAPI document, and a page to read it in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from maniac_edge.http.openapi import Operation, document
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


def reference_handlers(operations: Sequence[Operation]) -> list[HTTPRouteHandler]:
    """Return the handlers that serve the document of these operations and the page."""

    @cache
    def rendered() -> bytes:
        return encode(document(operations))

    @cache
    def page() -> bytes:
        return files("maniac_edge").joinpath("reference.html").read_bytes()

    @get("/openapi.json", sync_to_thread=False)
    def openapi_json() -> Response[bytes]:
        return Response(rendered(), media_type="application/json")

    @get("/docs", sync_to_thread=False)
    def docs() -> Response[bytes]:
        return Response(
            page(),
            media_type="text/html",
            headers={"content-security-policy": _POLICY},
        )

    @get("/", sync_to_thread=False)
    def root(request: Request[Any, Any, Any]) -> Response[bytes]:
        # Browsers ask for HTML by name; other clients get the same as JSON.
        if "text/html" in request.headers.get("accept", ""):
            return Response(
                _ROOT_PAGE, media_type="text/html", headers={"content-security-policy": _POLICY}
            )
        return Response(_ROOT, media_type="application/json")

    return [openapi_json, docs, root]


OPERATIONS = (
    Operation(
        method="get",
        path="/",
        operation_id="root",
        tag="Reference",
        summary="Where everything is",
        description="As a page for browsers.",
        response=Root,
        is_public=True,
    ),
    Operation(
        method="get",
        path="/openapi.json",
        operation_id="openapi",
        tag="Reference",
        summary="This document",
        response=dict[str, Any],
        response_description="OpenAPI 3.1.",
        is_public=True,
    ),
    Operation(
        method="get",
        path="/docs",
        operation_id="docs",
        tag="Reference",
        summary="This document as a page",
        response=str,
        media_type="text/html",
        response_description="A page that loads nothing from elsewhere.",
        is_public=True,
    ),
)
