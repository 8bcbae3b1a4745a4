"""Evaluation runs: requests are checked, and then refused, since nothing runs evaluators yet."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from litestar import Request, get, post

from maniac_edge.errors import EdgeError
from maniac_edge.http.openapi import Operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, read_query, validation_error
from maniac_edge.schemas import evaluation_runs as schema
from maniac_edge.schemas.common import FieldError

_create = msgspec.json.Decoder(schema.EvaluationRunCreate)


@post("/evaluation/runs", status_code=200, include_in_schema=False)
async def create_evaluation_run(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Check a new run."""
    data = await bodies.read(request.scope, request.receive)
    wanted = decode_body(data, _create)
    sides = (wanted.sample, wanted.ground_truth)
    if all(isinstance(side, schema.GenerateSource) for side in sides):
        problem = "Cannot be generated as well as the sample."
        raise validation_error(
            [FieldError(loc=["body", "ground_truth"], msg=problem, type="value_error")]
        )
    _refuse()


@get("/evaluation/runs", include_in_schema=False)
async def list_evaluation_runs(request: Request[Any, Any, Any]) -> None:
    """Check the query of a list."""
    read_query(request.scope["query_string"], schema.EvaluationRunQuery)
    _refuse()


@get("/evaluation/runs/{run_id:str}", include_in_schema=False)
async def get_evaluation_run(run_id: str) -> None:
    """Refuse."""
    del run_id
    _refuse()


@post("/evaluation/runs/{run_id:str}/cancel", status_code=200, include_in_schema=False)
async def cancel_evaluation_run(run_id: str) -> None:
    """Refuse."""
    del run_id
    _refuse()


def _refuse() -> NoReturn:
    raise EdgeError("NOT_IMPLEMENTED", "This gateway stores evaluators and does not run them.")


HANDLERS = (
    create_evaluation_run,
    list_evaluation_runs,
    get_evaluation_run,
    cancel_evaluation_run,
)
_RUN = {"run_id": "Id of the run."}
_NOT_YET = "Not available: a valid request is a 501."
OPERATIONS = (
    Operation(
        method="post",
        path="/v1/evaluation/runs",
        operation_id="create_evaluation_run",
        tag="Evaluation runs",
        summary="Run evaluators",
        description=_NOT_YET,
        body=schema.EvaluationRunCreate,
        errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/evaluation/runs",
        operation_id="list_evaluation_runs",
        tag="Evaluation runs",
        summary="List evaluation runs",
        description=_NOT_YET,
        query=schema.EvaluationRunQuery,
        errors=(401, 403, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="get",
        path="/v1/evaluation/runs/{run_id}",
        operation_id="get_evaluation_run",
        tag="Evaluation runs",
        summary="Get an evaluation run",
        description=_NOT_YET,
        path_parameters=_RUN,
        errors=(401, 403, 429, 500, 501, 503),
    ),
    Operation(
        method="post",
        path="/v1/evaluation/runs/{run_id}/cancel",
        operation_id="cancel_evaluation_run",
        tag="Evaluation runs",
        summary="Cancel an evaluation run",
        description=_NOT_YET,
        path_parameters=_RUN,
        errors=(401, 403, 429, 500, 501, 503),
    ),
)
