"""Models: the catalogue, and attaching a model to a container."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import models_pb2

from maniac_edge.convert import containers as convert_containers
from maniac_edge.convert import models as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, invalid_value, read_query
from maniac_edge.schemas import containers as container_schema
from maniac_edge.schemas import models as schema
from maniac_edge.wires.messages.models import anthropic_model, anthropic_models

_attach = msgspec.json.Decoder(container_schema.ModelAttach)
_PAGE = 1000
_VERSION = "anthropic-version"


@operation(
    "GET",
    "/models",
    # What Anthropic's clients make of a base URL that ends in /v1.
    also_at=("/v1/models",),
    tag="Models",
    query=schema.ModelQuery,
    response=schema.ModelList,
    response_description="Models.",
    errors=(400, 401, 403, 429, 500, 501, 503),
)
async def list_models(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List models.

    By id. All of them, unless `limit` or `offset` is given. A request with an `anthropic-version` header gets the list in
    Anthropic's form, from `after_id` on or up to `before_id`.
    """
    if _VERSION in request.headers:
        return await _list_for_anthropic(request, core)
    with invalid_value():
        query = read_query(request.scope["query_string"], schema.ModelQuery)
    is_paged = query.limit is not None or query.offset is not None
    wanted = models_pb2.ListModelsRequest(
        page_size=(query.limit or 100) if is_paged else _PAGE,
        page_token=query.after or "",
        skip=query.offset or 0,
        container=query.container or "",
    )
    page = await core.call(core.models.ListModels, wanted, context_of(request))
    models = list(page.models)
    while page.next_page_token and not is_paged:
        wanted.page_token = page.next_page_token
        page = await core.call(core.models.ListModels, wanted, context_of(request))
        models += page.models
    data = [convert.model_to_json(model) for model in models]
    return list_response(
        request,
        schema.ModelList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=None if query.after else page.total_size - (query.offset or 0) - len(data),
    )


async def _list_for_anthropic(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    with invalid_value():
        query = read_query(request.scope["query_string"], schema.AnthropicModelQuery)
    if query.before_id is not None:
        earlier = await _models_before(query.before_id, request, core)
        has_more = len(earlier) > query.limit
        return json_response(anthropic_models(earlier[-query.limit :], has_more=has_more))
    wanted = models_pb2.ListModelsRequest(page_size=query.limit, page_token=query.after_id or "")
    page = await core.call(core.models.ListModels, wanted, context_of(request))
    return json_response(anthropic_models(page.models, has_more=bool(page.next_page_token)))


async def _models_before(
    model_id: str, request: Request[Any, Any, Any], core: CoreClient
) -> list[models_pb2.Model]:
    """Return all models in front of one; the core pages forward only."""
    wanted = models_pb2.ListModelsRequest(page_size=_PAGE)
    found: list[models_pb2.Model] = []
    while True:
        page = await core.call(core.models.ListModels, wanted, context_of(request))
        found += [model for model in page.models if model.id < model_id]
        wanted.page_token = page.next_page_token
        if not page.next_page_token or page.next_page_token >= model_id:
            return found


@operation(
    "GET",
    "/models/{model:path}",
    also_at=("/v1/models/{model:path}",),
    tag="Models",
    path_parameters={"model": "Full slug, short slug if it matches only one model, or UUID."},
    response=schema.Model,
    response_description="The model.",
    errors=(400, 401, 403, 404, 429, 500, 501, 503),
)
async def get_model(
    request: Request[Any, Any, Any], model: str, core: CoreClient
) -> Response[bytes]:
    """Get a model.

    A request with an `anthropic-version` header gets it in Anthropic's form.
    """
    wanted = models_pb2.GetModelRequest(id=unquote(model.removeprefix("/")))
    found = await core.call(core.models.GetModel, wanted, context_of(request))
    if _VERSION in request.headers:
        return json_response(anthropic_model(found.model))
    return json_response(convert.model_to_json(found.model))


@operation(
    "POST",
    "/models",
    tag="Models",
    body=container_schema.ModelAttach,
    response=container_schema.ContainerModel,
    response_description="The attached model.",
    errors=(400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503),
)
async def attach_model(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Attach a model to a container.

    `maniac:CONTAINER:SLUG` then routes to it.
    """
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _attach)
    wanted = convert_containers.attach_from_json(body.container, body)
    attached = await core.call(core.containers.AddContainerModel, wanted, context_of(request))
    return json_response(convert_containers.container_model_to_json(attached.model))


HANDLERS = (list_models, get_model, attach_model)
