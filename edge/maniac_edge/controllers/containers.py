"""Containers: named routes with defaults, and the models attached to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import containers_pb2

from maniac_edge.convert import containers as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, read_query
from maniac_edge.schemas import containers as schema

_create = msgspec.json.Decoder(schema.ContainerCreate)
_update = msgspec.json.Decoder(schema.ContainerUpdate)
_attach = msgspec.json.Decoder(schema.ContainerModelAttach)
_PATH = "/containers/{container:str}"
_ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503)
_LABEL = {"container": "Label or id of the container."}


@operation(
    "GET",
    "/containers",
    tag="Containers",
    query=schema.ContainerQuery,
    response=schema.ContainerList,
    response_description="A page.",
    errors=(400, 401, 403, 422, 429, 500, 501, 503),
)
async def list_containers(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List containers.

    Newest first.
    """
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


@operation(
    "POST",
    "/containers",
    tag="Containers",
    body=schema.ContainerCreate,
    response=schema.Container,
    response_description="The container.",
    errors=_ERRORS,
)
async def create_container(
    request: Request[Any, Any, Any], core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Create a container."""
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _create)
    made = await core.call(
        core.containers.CreateContainer,
        containers_pb2.CreateContainerRequest(container=convert.container_from_json(body)),
        context_of(request),
    )
    return json_response(convert.container_to_json(made.container))


@operation(
    "GET",
    _PATH,
    tag="Containers",
    path_parameters=_LABEL,
    response=schema.Container,
    response_description="The container.",
    errors=_ERRORS,
)
async def get_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient
) -> Response[bytes]:
    """Get a container."""
    found = await core.call(
        core.containers.GetContainer,
        containers_pb2.GetContainerRequest(container=unquote(container)),
        context_of(request),
    )
    return json_response(convert.container_to_json(found.container))


@operation(
    "PATCH",
    _PATH,
    tag="Containers",
    path_parameters=_LABEL,
    body=schema.ContainerUpdate,
    response=schema.Container,
    response_description="The changed container.",
    errors=_ERRORS,
)
async def update_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Change a container's defaults.

    What is absent stays as it is; null clears.
    """
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _update)
    changed = await core.call(
        core.containers.UpdateContainer,
        convert.update_from_json(unquote(container), body),
        context_of(request),
    )
    return json_response(convert.container_to_json(changed.container))


@operation(
    "DELETE",
    _PATH,
    tag="Containers",
    path_parameters=_LABEL,
    response=schema.ContainerDeleted,
    errors=_ERRORS,
)
async def delete_container(
    request: Request[Any, Any, Any], container: str, core: CoreClient
) -> Response[bytes]:
    """Delete a container.

    Its label is free again; its completions stay listed.
    """
    deleted = await core.call(
        core.containers.DeleteContainer,
        containers_pb2.DeleteContainerRequest(container=unquote(container)),
        context_of(request),
    )
    return json_response(schema.ContainerDeleted(label=deleted.container.label))


@operation(
    "POST",
    f"{_PATH}/models",
    tag="Containers",
    path_parameters=_LABEL,
    body=schema.ContainerModelAttach,
    response=schema.ContainerModel,
    response_description="The attached model.",
    errors=_ERRORS,
)
async def attach_container_model(
    request: Request[Any, Any, Any], container: str, core: CoreClient, bodies: BodyReader
) -> Response[bytes]:
    """Attach a model to a container (older form of POST /v1/models)."""
    data = await bodies.read(request.scope, request.receive)
    body = decode_body(data, _attach)
    attached = await core.call(
        core.containers.AddContainerModel,
        convert.attach_from_json(unquote(container), body),
        context_of(request),
    )
    return json_response(convert.container_model_to_json(attached.model))


HANDLERS = (
    list_containers,
    create_container,
    get_container,
    update_container,
    delete_container,
    attach_container_model,
)
