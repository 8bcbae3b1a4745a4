"""Probes: whether this process is up, and whether it can serve."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import Response, get
from litestar.datastructures import State

from maniac_edge.core.client import CoreClient
from maniac_edge.errors import EdgeError
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import encode


class Health(msgspec.Struct):
    """A probe's answer."""

    status: Literal["ok"] = "ok"


_OK = encode(Health())


@get("/healthz")
async def healthz() -> Response[bytes]:
    """Answer as long as the process runs."""
    return Response(_OK, media_type="application/json")


@get("/readyz")
async def readyz(core: CoreClient, state: State) -> Response[bytes]:
    """Answer 200 if a core serves, 503 if none does or this process is about to stop."""
    if state.get("is_leaving"):
        raise EdgeError("DEPENDENCY_UNAVAILABLE", "This edge is stopping.")
    if not await core.is_serving():
        raise EdgeError("DEPENDENCY_UNAVAILABLE", "The gateway's core is not serving.")
    return Response(_OK, media_type="application/json")


HANDLERS = (healthz, readyz)
OPERATIONS = (
    Operation(
        method="get",
        path="/healthz",
        operation_id="healthz",
        tag="Health",
        summary="Whether the process runs",
        response=Health,
        response_description="It runs.",
        is_public=True,
    ),
    Operation(
        method="get",
        path="/readyz",
        operation_id="readyz",
        tag="Health",
        summary="Whether requests can be served",
        response=Health,
        response_description="They can.",
        errors=(503,),
        is_public=True,
    ),
)
