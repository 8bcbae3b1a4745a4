"""Datasets: made, read, listed and deleted; their items are in dataset_content."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import datasets_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.controllers.dataset_content import get_dataset_content
from maniac_edge.convert import datasets as convert
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.validation import decode_body, read_query
from maniac_edge.schemas import datasets as schema

_create = msgspec.json.Decoder(schema.DatasetCreate)
_PATH = "/datasets/{dataset_id:str}"
_ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503)
_ID = {"dataset_id": "Id of the dataset."}


@operation(
    "GET",
    "/datasets",
    tag="Datasets",
    query=schema.DatasetQuery,
    response=schema.DatasetList,
    response_description="A page.",
    errors=(400, 401, 403, 422, 429, 500, 501, 503),
)
async def list_datasets(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List datasets.

    Newest first. An unknown container has none.
    """
    query = read_query(request.scope["query_string"], schema.DatasetQuery)
    page = await core.call(
        core.datasets.ListDatasets,
        datasets_pb2.ListDatasetsRequest(
            page_size=query.limit, skip=query.offset, container=query.container or ""
        ),
        context_of(request),
    )
    data = [convert.dataset_to_json(dataset) for dataset in page.datasets]
    return list_response(
        request,
        schema.DatasetList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=page.total_size - query.offset - len(data),
    )


@operation(
    "POST",
    "/datasets",
    tag="Datasets",
    body=schema.DatasetCreate,
    response=schema.DatasetCreated,
    response_description="The dataset is complete.",
    errors=_ERRORS,
)
async def create_dataset(
    request: Request[Any, Any, Any], core: CoreClient, config: EdgeConfig, bodies: BodyReader
) -> Response[bytes]:
    """Create a dataset.

    Takes the newest completions of a container that match all filters, at most `size`. They never change
    afterwards.
    """
    data = await bodies.read(request.scope, request.receive)
    wanted = convert.create_from_json(decode_body(data, _create))
    made = await core.call(
        core.datasets.CreateDataset,
        wanted,
        context_of(request),
        # A filter on texts reads the bodies of all completions of a container.
        timeout_s=config.file_timeout_s,
    )
    return json_response(convert.created_to_json(made.dataset))


@operation(
    "GET",
    _PATH,
    tag="Datasets",
    path_parameters=_ID,
    response=schema.Dataset,
    response_description="The dataset.",
    errors=_ERRORS,
)
async def get_dataset(
    request: Request[Any, Any, Any], dataset_id: str, core: CoreClient
) -> Response[bytes]:
    """Get what is known of a dataset."""
    found = await core.call(
        core.datasets.GetDataset,
        datasets_pb2.GetDatasetRequest(id=unquote(dataset_id)),
        context_of(request),
    )
    return json_response(convert.dataset_to_json(found.dataset))


@operation(
    "DELETE",
    _PATH,
    tag="Datasets",
    path_parameters=_ID,
    response=schema.DatasetDeleted,
    errors=_ERRORS,
)
async def delete_dataset(
    request: Request[Any, Any, Any], dataset_id: str, core: CoreClient
) -> Response[bytes]:
    """Delete a dataset.

    The completions it was taken from stay.
    """
    wanted = datasets_pb2.DeleteDatasetRequest(id=unquote(dataset_id))
    await core.call(core.datasets.DeleteDataset, wanted, context_of(request))
    return json_response(schema.DatasetDeleted(id=wanted.id))


HANDLERS = (list_datasets, create_dataset, get_dataset, delete_dataset, get_dataset_content)
