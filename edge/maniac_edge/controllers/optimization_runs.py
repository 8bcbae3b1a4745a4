"""Optimization runs: requests are checked, and then refused, since nothing trains models here."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, post

from maniac_edge.errors import EdgeError
from maniac_edge.http.openapi import Operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body
from maniac_edge.schemas import optimization_runs as schema

_create = msgspec.json.Decoder(schema.OptimizationRunCreate)


@post("/optimization/runs", status_code=200, include_in_schema=False)
async def create_optimization_run(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Check a new run."""
    data = await bodies.read(request.scope, request.receive)
    decode_body(data, _create)
    raise EdgeError("NOT_IMPLEMENTED", "This gateway has no trainer.")


HANDLERS = (create_optimization_run,)
OPERATIONS = (
    Operation(
        method="post",
        path="/v1/optimization/runs",
        operation_id="create_optimization_run",
        tag="Optimization runs",
        summary="Train models",
        description="Not available: a valid request is a 501.",
        body=schema.OptimizationRunCreate,
        errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
    ),
)
