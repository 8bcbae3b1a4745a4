"""Evaluators: made, read, changed and deleted, by id or name; they are not run here."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import evaluators_pb2

from maniac_edge.convert import evaluators as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.path_ids import by_given_id
from maniac_edge.requests.validation import decode_body, read_query
from maniac_edge.schemas import evaluators as schema

_create = msgspec.json.Decoder(schema.EvaluatorCreate)
_update = msgspec.json.Decoder(schema.EvaluatorUpdate)
_PATH = "/evaluators/{evaluator:path}"
_ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503)
_NAME = {"evaluator": "Id or name of the evaluator; an id wins over a name."}


@operation(
    "GET",
    "/evaluators",
    tag="Evaluators",
    query=schema.EvaluatorQuery,
    response=schema.EvaluatorList,
    response_description="A page.",
    errors=(400, 401, 403, 422, 429, 500, 501, 503),
)
async def list_evaluators(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List evaluators.

    Newest first. An unknown container has none.
    """
    query = read_query(request.scope["query_string"], schema.EvaluatorQuery)
    page = await core.call(
        core.evaluators.ListEvaluators,
        evaluators_pb2.ListEvaluatorsRequest(
            page_size=query.limit, skip=query.offset, container=query.container or ""
        ),
        context_of(request),
    )
    data = [convert.evaluator_to_json(evaluator) for evaluator in page.evaluators]
    return list_response(
        request,
        schema.EvaluatorList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=page.total_size - query.offset - len(data),
    )


@operation(
    "POST",
    "/evaluators",
    tag="Evaluators",
    body=schema.EvaluatorCreate,
    response=schema.Evaluator,
    response_description="The evaluator.",
    errors=_ERRORS,
)
async def create_evaluator(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Create an evaluator.

    It is validated and stored, and not run.
    """
    data = await bodies.read(request.scope, request.receive)
    wanted = convert.create_from_json(decode_body(data, _create))
    made = await core.call(core.evaluators.CreateEvaluator, wanted, context_of(request))
    return json_response(convert.evaluator_to_json(made.evaluator))


@operation(
    "GET",
    _PATH,
    tag="Evaluators",
    path_parameters=_NAME,
    response=schema.Evaluator,
    response_description="The evaluator.",
    errors=_ERRORS,
)
async def get_evaluator(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Get an evaluator."""
    found = await by_given_id(
        request,
        "evaluators",
        lambda evaluator: core.call(
            core.evaluators.GetEvaluator,
            evaluators_pb2.GetEvaluatorRequest(evaluator=evaluator),
            context_of(request),
        ),
    )
    return json_response(convert.evaluator_to_json(found.evaluator))


@operation(
    "PATCH",
    _PATH,
    tag="Evaluators",
    path_parameters=_NAME,
    body=schema.EvaluatorUpdate,
    response=schema.Evaluator,
    response_description="The changed evaluator.",
    errors=_ERRORS,
)
async def update_evaluator(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Change an evaluator.

    What is absent stays as it is; null clears what may be absent. Its type stays.
    """
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _update)
    changed = await by_given_id(
        request,
        "evaluators",
        lambda evaluator: core.call(
            core.evaluators.UpdateEvaluator,
            convert.update_from_json(evaluator, body),
            context_of(request),
        ),
    )
    return json_response(convert.evaluator_to_json(changed.evaluator))


@operation(
    "DELETE",
    _PATH,
    tag="Evaluators",
    path_parameters=_NAME,
    response=schema.EvaluatorDeleted,
    errors=_ERRORS,
)
async def delete_evaluator(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Delete an evaluator.

    Its name is free again.
    """
    deleted = await by_given_id(
        request,
        "evaluators",
        lambda evaluator: core.call(
            core.evaluators.DeleteEvaluator,
            evaluators_pb2.DeleteEvaluatorRequest(evaluator=evaluator),
            context_of(request),
        ),
    )
    return json_response(schema.EvaluatorDeleted(id=deleted.id))


HANDLERS = (list_evaluators, create_evaluator, get_evaluator, update_evaluator, delete_evaluator)
