"""Optimization runs: requests are checked, and then refused, since nothing trains models here."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from maniac_edge.errors import EdgeError
from maniac_edge.http.operation import operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body
from maniac_edge.schemas import optimization_runs as schema

_create = msgspec.json.Decoder(schema.OptimizationRunCreate)


@operation(
    "POST",
    "/optimization/runs",
    tag="Optimization runs",
    body=schema.OptimizationRunCreate,
    errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
)
async def create_optimization_run(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Train models.

    Not available: a valid request is a 501.
    """
    data = await bodies.read(request.scope, request.receive)
    decode_body(data, _create)
    raise EdgeError("NOT_IMPLEMENTED", "This gateway has no trainer.")


HANDLERS = (create_optimization_run,)
