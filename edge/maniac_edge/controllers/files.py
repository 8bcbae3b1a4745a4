"""Files: lists, facts and deletion; their bytes are in file_upload and file_content."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from litestar import Request, Response
from maniac_gateway.v1 import files_pb2

from maniac_edge.controllers.file_content import get_file_content
from maniac_edge.controllers.file_upload import create_file
from maniac_edge.convert.files import file_to_json
from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.validation import read_query
from maniac_edge.schemas import files as schema

_PATH = "/files/{file_id:str}"
_ERRORS = (400, 401, 403, 404, 422, 429, 500, 503)
_ID = {"file_id": "Id of the file."}


@operation(
    "GET",
    "/files",
    tag="Files",
    query=schema.FileQuery,
    response=schema.FileList,
    response_description="A page.",
    errors=(400, 401, 403, 422, 429, 500, 503),
)
async def list_files(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List files.

    Newest first.
    """
    query = read_query(request.scope["query_string"], schema.FileQuery)
    page = await core.call(
        core.files.ListFiles,
        files_pb2.ListFilesRequest(
            page_size=query.limit,
            page_token=query.after or "",
            skip=query.offset,
            purpose=query.purpose or "",
        ),
        context_of(request),
    )
    data = [file_to_json(file) for file in page.files]
    return list_response(
        request,
        schema.FileList(data=data, total=page.total_size),
        next_page=page.next_page_token,
        left=None if query.after else page.total_size - query.offset - len(data),
    )


@operation(
    "GET",
    _PATH,
    tag="Files",
    path_parameters=_ID,
    response=schema.FileObject,
    response_description="The file.",
    errors=_ERRORS,
)
async def get_file(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient
) -> Response[bytes]:
    """Get what is known of a file."""
    found = await core.call(
        core.files.GetFile, files_pb2.GetFileRequest(id=unquote(file_id)), context_of(request)
    )
    return json_response(file_to_json(found.file))


@operation(
    "DELETE", _PATH, tag="Files", path_parameters=_ID, response=schema.FileDeleted, errors=_ERRORS
)
async def delete_file(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient
) -> Response[bytes]:
    """Delete a file."""
    deleted = await core.call(
        core.files.DeleteFile, files_pb2.DeleteFileRequest(id=unquote(file_id)), context_of(request)
    )
    return json_response(schema.FileDeleted(id=deleted.file.id))


HANDLERS = (list_files, create_file, get_file, delete_file, get_file_content)
