"""The OpenAPI document, and a page to read it in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from maniac_edge.openapi import Operation, document
from maniac_edge.responses import encode

# The page may load its own document and nothing else.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)


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

    return [openapi_json, docs]


OPERATIONS = (
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
