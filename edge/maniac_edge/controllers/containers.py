"""Containers: named routes with defaults, and the models attached to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, delete, get, patch, post
from maniac_gateway.v1 import containers_pb2

from maniac_edge.convert import containers as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, read_query
from maniac_edge.schemas import containers as schema

_create = msgspec.json.Decoder(schema.ContainerCreate)
_update = msgspec.json.Decoder(schema.ContainerUpdate)
_attach = msgspec.json.Decoder(schema.ContainerModelAttach)
_PATH = "/containers/{container:str}"


@get("/containers", include_in_schema=False)
async def list_containers(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Answer a page."""
    query = read_query(request.scope["query_string"], schema.ContainerQuery)
    page = await core.call(
        core.containers.ListContainers,
        containers_pb2.ListContainersRequest(
            page_size=query.limit, page_token=query.after or "", skip=query.offset
        ),
        context_of(request),
    )
    data = [convert.container_to_json(container) for container in page.containers]
    return list_response(
        request,
        schema.ContainerList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=None if query.after else page.total_size - query.offset - len(data),
    )


@post("/containers", status_code=200, include_in_schema=False)
async def create_container(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Make one."""
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _create)
    made = await core.call(
        core.containers.CreateContainer,
        containers_pb2.CreateContainerRequest(container=convert.container_from_json(body)),
        context_of(request),
    )
    return json_response(convert.container_to_json(made.container))


@get(_PATH, include_in_schema=False)
async def get_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient
) -> Response[bytes]:
    """Answer one."""
    found = await core.call(
        core.containers.GetContainer,
        containers_pb2.GetContainerRequest(container=unquote(container)),
        context_of(request),
    )
    return json_response(convert.container_to_json(found.container))


@patch(_PATH, include_in_schema=False)
async def update_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Change one."""
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _update)
    changed = await core.call(
        core.containers.UpdateContainer,
        convert.update_from_json(unquote(container), body),
        context_of(request),
    )
    return json_response(convert.container_to_json(changed.container))


@delete(_PATH, status_code=200, include_in_schema=False)
async def delete_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient
) -> Response[bytes]:
    """Delete one."""
    deleted = await core.call(
        core.containers.DeleteContainer,
        containers_pb2.DeleteContainerRequest(container=unquote(container)),
        context_of(request),
    )
    return json_response(schema.ContainerDeleted(label=deleted.container.label))


@post(f"{_PATH}/models", status_code=200, include_in_schema=False)
async def attach_model(
    request: Request[Any, Any, Any], container: str, core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Attach a model."""
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _attach)
    attached = await core.call(
        core.containers.AddContainerModel,
        convert.attach_from_json(unquote(container), body),
        context_of(request),
    )
    return json_response(convert.container_model_to_json(attached.model))


_READ_ERRORS = (400, 401, 403, 422, 429, 500, 501, 503)
_ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503)
_LABEL = {"container": "Label or id of the container."}
HANDLERS = (
    list_containers,
    create_container,
    get_container,
    update_container,
    delete_container,
    attach_model,
)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/containers",
        operation_id="list_containers",
        tag="Containers",
        summary="List containers",
        description="Newest first.",
        query=schema.ContainerQuery,
        response=schema.ContainerList,
        response_description="A page.",
        errors=_READ_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/containers",
        operation_id="create_container",
        tag="Containers",
        summary="Create a container",
        body=schema.ContainerCreate,
        response=schema.Container,
        response_description="The container.",
        errors=_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/containers/{container}",
        operation_id="get_container",
        tag="Containers",
        summary="Get a container",
        path_parameters=_LABEL,
        response=schema.Container,
        response_description="The container.",
        errors=_ERRORS,
    ),
    Operation(
        method="patch",
        path="/v1/containers/{container}",
        operation_id="update_container",
        tag="Containers",
        summary="Change a container's defaults",
        description="What is absent stays as it is; null clears.",
        path_parameters=_LABEL,
        body=schema.ContainerUpdate,
        response=schema.Container,
        response_description="The changed container.",
        errors=_ERRORS,
    ),
    Operation(
        method="delete",
        path="/v1/containers/{container}",
        operation_id="delete_container",
        tag="Containers",
        summary="Delete a container",
        description="Its label is free again; its completions stay listed.",
        path_parameters=_LABEL,
        response=schema.ContainerDeleted,
        errors=_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/containers/{container}/models",
        operation_id="attach_container_model",
        tag="Containers",
        summary="Attach a model to a container (older form of POST /v1/models)",
        path_parameters=_LABEL,
        body=schema.ContainerModelAttach,
        response=schema.ContainerModel,
        response_description="The attached model.",
        errors=_ERRORS,
    ),
)
