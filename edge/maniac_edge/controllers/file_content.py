"""GET /files/{file_id}/content: from the core's stream to the client, at the client's pace."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from litestar.types import Send
from maniac_gateway.v1 import files_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import Header, RequestContext
from maniac_edge.convert.files import WHOLE, ByteRange, range_from_header
from maniac_edge.core.client import CoreClient
from maniac_edge.core.download import CoreDownload, DownloadResponse
from maniac_edge.errors import EdgeError, internal_error
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of


@operation(
    "GET",
    "/files/{file_id:str}/content",
    tag="Files",
    path_parameters={"file_id": "Id of the file."},
    headers={
        "Range": "One range of bytes, such as `bytes=0-99`, `bytes=100-` or `bytes=-100`."
        " Several ranges, and values that are not a range, are ignored.",
        "If-Range": "The ETag of the file that the range continues; for another one the whole file is sent.",
    },
    response=msgspec.Raw,
    media_type="application/octet-stream",
    response_description="The bytes.",
    partial_description="The bytes of the range.",
    errors=(400, 401, 403, 404, 422, 429, 500, 503, 416, 502),
)
async def get_file_content(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient, config: EdgeConfig
) -> Response[None]:
    """Download a file.

    `ETag` is the SHA-256 of the whole file. An answer that ends before `Content-Length` is broken.
    """
    context = context_of(request)
    headers = dict(request.scope["headers"])
    wanted = range_from_header(headers.get(b"range", b""))
    download = _Download(core, unquote(file_id), wanted, context, config.file_timeout_s)
    await download.open()
    if wanted != WHOLE and headers.get(b"if-range", download.etag) != download.etag:
        # The client's other part belongs to a different file.
        download.close()
        download = _Download(core, unquote(file_id), WHOLE, context, config.file_timeout_s)
        await download.open()
    return _ContentResponse(download, context)


class _Download(CoreDownload[files_pb2.DownloadFileResponse]):
    """A file, or a range of it."""

    def __init__(
        self,
        core: CoreClient,
        file_id: str,
        wanted: ByteRange,
        context: RequestContext,
        timeout_s: float,
    ) -> None:
        request = files_pb2.DownloadFileRequest(
            id=file_id, offset=wanted.offset, limit=wanted.limit
        )
        call = core.files.DownloadFile(request, timeout=timeout_s, metadata=core.metadata(context))
        super().__init__(call, context)
        self._wanted = wanted
        self.file = files_pb2.File()

    @property
    def etag(self) -> bytes:
        """The entity tag of the whole file."""
        return b'"%s"' % self.file.sha256.encode()

    async def open(self) -> files_pb2.DownloadFileResponse:
        """Wait for the file.

        Raises:
            EdgeError: what the core says; RANGE_NOT_SATISFIABLE with its header.
        """
        try:
            response = await super().open()
        except EdgeError as error:
            if error.code == "range_not_satisfiable":
                size = (error.details or {}).get("size_bytes", 0)
                error.headers = ((b"content-range", b"bytes */%d" % size),)
            raise
        self.file = response.file
        return response

    def head(self) -> tuple[int, int, list[Header]]:
        """Return status, length of the body and headers of the answer."""
        size = self.file.size_bytes
        start, length = self._wanted.span(size)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % length),
            (b"accept-ranges", b"bytes"),
            (b"etag", self.etag),
        ]
        # No Content-Range can name a part of nothing.
        if self._wanted == WHOLE or size == 0:
            return 200, length, headers
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, start + length - 1, size)))
        return 206, length, headers


class _ContentResponse(DownloadResponse):
    """Sends the bytes as they come."""

    what = "a download"
    _download: _Download

    async def relay(self, send: Send) -> None:
        """Send head and bytes."""
        status, left, headers = self._download.head()
        start: Any = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        if self._context.is_head:
            left = 0
        while left:
            chunk = await self._download.chunk()
            if chunk is None:
                raise internal_error()
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
