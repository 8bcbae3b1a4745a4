"""Files: lists, facts and deletion; their bytes are in file_upload and file_content."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, delete, get
from maniac_gateway.v1 import files_pb2

from maniac_edge.controllers.file_content import get_file_content
from maniac_edge.controllers.file_upload import create_file
from maniac_edge.convert.files import file_to_json
from maniac_edge.core.client import CoreClient
from maniac_edge.http.openapi import Operation
from maniac_edge.http.responses import context_of, json_response, list_response
from maniac_edge.requests.validation import read_query
from maniac_edge.schemas import files as schema

_PATH = "/files/{file_id:str}"


@get("/files", include_in_schema=False)
async def list_files(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """Answer a page."""
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


@get(_PATH, include_in_schema=False)
async def get_file(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient
) -> Response[bytes]:
    """Answer one."""
    found = await core.call(
        core.files.GetFile, files_pb2.GetFileRequest(id=unquote(file_id)), context_of(request)
    )
    return json_response(file_to_json(found.file))


@delete(_PATH, status_code=200, include_in_schema=False)
async def delete_file(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient
) -> Response[bytes]:
    """Delete one."""
    deleted = await core.call(
        core.files.DeleteFile, files_pb2.DeleteFileRequest(id=unquote(file_id)), context_of(request)
    )
    return json_response(schema.FileDeleted(id=deleted.file.id))


_LIST_ERRORS = (400, 401, 403, 422, 429, 500, 503)
_ERRORS = (400, 401, 403, 404, 422, 429, 500, 503)
_ID = {"file_id": "Id of the file."}
HANDLERS = (list_files, create_file, get_file, delete_file, get_file_content)
OPERATIONS = (
    Operation(
        method="get",
        path="/v1/files",
        operation_id="list_files",
        tag="Files",
        summary="List files",
        description="Newest first.",
        query=schema.FileQuery,
        response=schema.FileList,
        response_description="A page.",
        errors=_LIST_ERRORS,
    ),
    Operation(
        method="post",
        path="/v1/files",
        operation_id="create_file",
        tag="Files",
        summary="Upload a file",
        description="The file is stored whole or not at all.",
        body=schema.FileUpload,
        body_media_type="multipart/form-data",
        body_description="A form with a file.",
        response=schema.FileObject,
        response_description="The stored file.",
        errors=(400, 401, 403, 409, 413, 422, 429, 500, 502, 503),
    ),
    Operation(
        method="get",
        path="/v1/files/{file_id}",
        operation_id="get_file",
        tag="Files",
        summary="Get what is known of a file",
        path_parameters=_ID,
        response=schema.FileObject,
        response_description="The file.",
        errors=_ERRORS,
    ),
    Operation(
        method="delete",
        path="/v1/files/{file_id}",
        operation_id="delete_file",
        tag="Files",
        summary="Delete a file",
        path_parameters=_ID,
        response=schema.FileDeleted,
        errors=_ERRORS,
    ),
    Operation(
        method="get",
        path="/v1/files/{file_id}/content",
        operation_id="get_file_content",
        tag="Files",
        summary="Download a file",
        description="`ETag` is the SHA-256 of the whole file. An answer that ends before `Content-Length` is broken.",
        path_parameters=_ID,
        headers={
            "Range": "One range of bytes, such as `bytes=0-99`, `bytes=100-` or `bytes=-100`."
            " Several ranges, and values that are not a range, are ignored.",
            "If-Range": "The ETag of the file that the range continues; for another one the whole file is sent.",
        },
        response=msgspec.Raw,
        media_type="application/octet-stream",
        response_description="The bytes.",
        partial_description="The bytes of the range.",
        errors=(*_ERRORS, 416, 502),
    ),
)
