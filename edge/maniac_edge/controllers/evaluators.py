"""Evaluators: made, read, changed and deleted, by id or name; they are not run here."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post
from maniac_gateway.v1 import evaluators_pb2

from maniac_edge.convert import evaluators as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.path_ids import by_given_id
from maniac_edge.requests.validation import decode_body, read_query
from maniac_edge.schemas import evaluators as schema

_create = msgspec.json.Decoder(schema.EvaluatorCreate)
_update = msgspec.json.Decoder(schema.EvaluatorUpdate)
_PATH = "/evaluators/{evaluator:path}"


@get("/evaluators", include_in_schema=False)
async def list_evaluators(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Answer a page."""
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


@post("/evaluators", status_code=200, include_in_schema=False)
async def create_evaluator(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Make one."""
    data = await bodies.read(request.scope, request.receive)
    wanted = convert.create_from_json(decode_body(data, _create))
    made = await core.call(core.evaluators.CreateEvaluator, wanted, context_of(request))
    return json_response(convert.evaluator_to_json(made.evaluator))


@get(_PATH, include_in_schema=False)
async def get_evaluator(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Answer one."""
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


@patch(_PATH, include_in_schema=False)
async def update_evaluator(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Change one."""
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


@delete(_PATH, status_code=200, include_in_schema=False)
async def delete_evaluator(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Delete one."""
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


_ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503)
_NAME = {"evaluator": "Id or name of the evaluator; an id wins over a name."}
HANDLERS = (list_evaluators, create_evaluator, get_evaluator, update_evaluator, delete_evaluator)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/evaluators",
        operation_id="list_evaluators",
        tag="Evaluators",
        summary="List evaluators",
        description="Newest first. An unknown container has none.",
        query=schema.EvaluatorQuery,
        response=schema.EvaluatorList,
        response_description="A page.",
        errors=(400, 401, 403, 422, 429, 500, 501, 503),
    ),
    Operation(
        method="post",
        path="/v1/evaluators",
        operation_id="create_evaluator",
        tag="Evaluators",
        summary="Create an evaluator",
        description="It is validated and stored, and not run.",
        body=schema.EvaluatorCreate,
        response=schema.Evaluator,
        response_description="The evaluator.",
        errors=_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/evaluators/{evaluator}",
        operation_id="get_evaluator",
        tag="Evaluators",
        summary="Get an evaluator",
        path_parameters=_NAME,
        response=schema.Evaluator,
        response_description="The evaluator.",
        errors=_ERRORS,
    ),
    Operation(
        method="patch",
        path="/v1/evaluators/{evaluator}",
        operation_id="update_evaluator",
        tag="Evaluators",
        summary="Change an evaluator",
        description="What is absent stays as it is; null clears what may be absent. Its type stays.",
        path_parameters=_NAME,
        body=schema.EvaluatorUpdate,
        response=schema.Evaluator,
        response_description="The changed evaluator.",
        errors=_ERRORS,
    ),
    Operation(
        method="delete",
        path="/v1/evaluators/{evaluator}",
        operation_id="delete_evaluator",
        tag="Evaluators",
        summary="Delete an evaluator",
        description="Its name is free again.",
        path_parameters=_NAME,
        response=schema.EvaluatorDeleted,
        errors=_ERRORS,
    ),
)
