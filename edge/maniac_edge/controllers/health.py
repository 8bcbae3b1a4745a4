"""Probes: whether this process is up, and whether it can serve."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import Response
from litestar.datastructures import State

from maniac_edge.core.client import CoreClient
from maniac_edge.errors import EdgeError
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import encode


class Health(msgspec.Struct):
    """A probe's answer."""

    status: Literal["ok"] = "ok"


_OK = encode(Health())


@operation(
    "GET",
    "/healthz",
    tag="Health",
    response=Health,
    response_description="It runs.",
    is_public=True,
)
async def healthz() -> Response[bytes]:
    """Whether the process runs."""
    return Response(_OK, media_type="application/json")


@operation(
    "GET",
    "/readyz",
    tag="Health",
    response=Health,
    response_description="They can.",
    errors=(503,),
    is_public=True,
)
async def readyz(core: CoreClient, state: State) -> Response[bytes]:
    """Whether requests can be served."""
    if state.get("is_leaving"):
        raise EdgeError("DEPENDENCY_UNAVAILABLE", "This edge is stopping.")
    if not await core.is_serving():
        raise EdgeError("DEPENDENCY_UNAVAILABLE", "The gateway's core is not serving.")
    return Response(_OK, media_type="application/json")


HANDLERS = (healthz, readyz)
