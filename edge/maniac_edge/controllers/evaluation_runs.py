"""Evaluation runs: requests are checked, and then refused, since nothing runs evaluators yet."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from litestar import Request

from maniac_edge.errors import EdgeError
from maniac_edge.http.operation import operation
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, read_query, validation_error
from maniac_edge.schemas import evaluation_runs as schema
from maniac_edge.schemas.common import FieldError

_create = msgspec.json.Decoder(schema.EvaluationRunCreate)
_RUN = {"run_id": "Id of the run."}


@operation(
    "POST",
    "/evaluation/runs",
    tag="Evaluation runs",
    body=schema.EvaluationRunCreate,
    errors=(400, 401, 403, 413, 422, 429, 500, 501, 503),
)
async def create_evaluation_run(request: Request[Any, Any, Any], bodies: BodyReader) -> None:
    """Run evaluators.

    Not available: a valid request is a 501.
    """
    data = await bodies.read(request.scope, request.receive)
    wanted = decode_body(data, _create)
    sides = (wanted.sample, wanted.ground_truth)
    if all(isinstance(side, schema.GenerateSource) for side in sides):
        problem = "Cannot be generated as well as the sample."
        raise validation_error(
            [FieldError(loc=["body", "ground_truth"], msg=problem, type="value_error")]
        )
    _refuse()


@operation(
    "GET",
    "/evaluation/runs",
    tag="Evaluation runs",
    query=schema.EvaluationRunQuery,
    errors=(401, 403, 422, 429, 500, 501, 503),
)
async def list_evaluation_runs(request: Request[Any, Any, Any]) -> None:
    """List evaluation runs.

    Not available: a valid request is a 501.
    """
    read_query(request.scope["query_string"], schema.EvaluationRunQuery)
    _refuse()


@operation(
    "GET",
    "/evaluation/runs/{run_id:str}",
    tag="Evaluation runs",
    path_parameters=_RUN,
    errors=(401, 403, 429, 500, 501, 503),
)
async def get_evaluation_run(run_id: str) -> None:
    """Get an evaluation run.

    Not available: a valid request is a 501.
    """
    del run_id
    _refuse()


@operation(
    "POST",
    "/evaluation/runs/{run_id:str}/cancel",
    tag="Evaluation runs",
    path_parameters=_RUN,
    errors=(401, 403, 429, 500, 501, 503),
)
async def cancel_evaluation_run(run_id: str) -> None:
    """Cancel an evaluation run.

    Not available: a valid request is a 501.
    """
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
