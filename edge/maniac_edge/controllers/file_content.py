"""GET /files/{file_id}/content: from the core's stream to the client, at the client's pace."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import grpc
from litestar import Request, Response, get
from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import files_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.connection import until_gone
from maniac_edge.context import Header, RequestContext
from maniac_edge.convert.files import WHOLE, ByteRange, range_from_header
from maniac_edge.core_client import CoreClient, failed, take_headers
from maniac_edge.errors import ClientGoneError, EdgeError, internal_error
from maniac_edge.responses import context_of

_log = logging.getLogger(__name__)


@get("/files/{file_id:str}/content", include_in_schema=False)
async def get_file_content(
    request: Request[Any, Any, Any], file_id: str, core: CoreClient, config: EdgeConfig
) -> Response[None]:
    """Answer a file's bytes, or a range of them."""
    context = context_of(request)
    headers = dict(request.scope["headers"])
    wanted = range_from_header(headers.get(b"range", b""))
    download = _Download(core, unquote(file_id), wanted, context, config.file_timeout_s)
    await download.open()
    if wanted != WHOLE and headers.get(b"if-range", download.etag) != download.etag:
        # What the client has the other part of is not this file.
        download.close()
        download = _Download(core, unquote(file_id), WHOLE, context, config.file_timeout_s)
        await download.open()
    return _ContentResponse(download, context)


class _Download:
    """One call of the core, which has answered with the file before anything is sent."""

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
        self._wanted = wanted
        self._context = context
        self._call = core.files.DownloadFile(request, timeout=timeout_s, metadata=context.metadata)
        self.file = files_pb2.File()

    @property
    def etag(self) -> bytes:
        """The entity tag of the whole file."""
        return b'"%s"' % self.file.sha256.encode()

    async def open(self) -> None:
        """Wait for the file.

        Raises:
            EdgeError: what the core says; RANGE_NOT_SATISFIABLE with its header.
        """
        response = await self._read()
        if response is None:
            raise internal_error()
        take_headers(self._context, await self._call.initial_metadata())
        self.file = response.file

    async def chunk(self) -> bytes | None:
        """Return the next bytes; None at the end.

        Raises:
            EdgeError: the core failed; what was returned is not the whole.
        """
        response = await self._read()
        return None if response is None else response.chunk

    def close(self) -> None:
        """End the call if it still runs."""
        self._call.cancel()

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

    async def _read(self) -> files_pb2.DownloadFileResponse | None:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as err:
            error = failed(err, self._context)
            if error.code == "range_not_satisfiable":
                size = (error.details or {}).get("size_bytes", 0)
                error.headers = ((b"content-range", b"bytes */%d" % size),)
            raise error from err
        return None if response is grpc.aio.EOF else response  # type: ignore[return-value]


class _ContentResponse(Response[None]):
    """Sends the bytes as they come."""

    def __init__(self, download: _Download, context: RequestContext) -> None:
        super().__init__(None)
        self._download = download
        self._context = context

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Return the ASGI app that sends it."""
        return self._send

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            async with until_gone(scope):
                await self._relay(send)
        except ClientGoneError:
            self._context.client_gone = True
        except EdgeError as err:
            # The head is out. An answer that ends early closes the connection, and so cannot look whole.
            self._context.error_code = err.code
            _log.warning("a download broke off: %s", err.message)
        finally:
            self._download.close()

    async def _relay(self, send: Send) -> None:
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
