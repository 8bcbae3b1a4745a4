"""POST /files: from the client's form to the core's stream, a piece at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response
from litestar.types import Receive
from maniac_gateway.v1 import files_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.convert.files import file_to_json
from maniac_edge.core.client import CoreClient
from maniac_edge.core.upload import CoreUpload
from maniac_edge.errors import ClientGoneError
from maniac_edge.http.client_connection import declared_size, until_gone
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response
from maniac_edge.requests.form_data import UploadForm, file_too_large
from maniac_edge.schemas.files import FileObject, FileUpload

# Fields that a form may have beside the file.
_FORM_OVERHEAD_BYTES = 64 * 1024
# Small pieces are gathered, because a message costs more than its bytes; large ones are cut.
_MESSAGE_BYTES = 256 * 1024


@operation(
    "POST",
    "/files",
    tag="Files",
    body=FileUpload,
    body_media_type="multipart/form-data",
    body_description="A form with a file.",
    response=FileObject,
    response_description="The stored file.",
    errors=(400, 401, 403, 409, 413, 422, 429, 500, 502, 503),
)
async def create_file(
    request: Request[Any, Any, Any], core: CoreClient, config: EdgeConfig
) -> Response[bytes]:
    """Upload a file.

    The file is stored whole or not at all.
    """
    # The body is taken from the connection itself: the framework would hold it whole.
    body = _Body(request.scope["headers"], request.receive, config.max_file_bytes)
    return json_response(file_to_json(await _relay(request, body, core, config)))


async def _relay(
    request: Request[Any, Any, Any], body: _Body, core: CoreClient, config: EdgeConfig
) -> files_pb2.File:
    form = UploadForm(request.headers.get("content-type", ""), config.max_file_bytes)
    body.check_declared_size()
    upload = CoreUpload(core, context_of(request), config.file_timeout_s)
    try:
        # A refused key is reported before the client sends its body, if it waits for `100 Continue`.
        await upload.open()
        await _send(body, form, upload)
        form.finish()
        with until_gone(request.scope):
            return await upload.finish(form.file_bytes)
    finally:
        upload.close()


async def _send(body: _Body, form: UploadForm, upload: CoreUpload) -> None:
    """Send the file's bytes, and what is known of it as soon as it is known."""
    pending = bytearray()
    is_described = False
    while not body.is_read:
        data = await body.read(upload.ended)
        if data is None:
            raise await upload.refusal()
        for piece in form.feed(data):
            pending += piece
        if not is_described and form.purpose is not None and form.filename is not None:
            await upload.describe(form.filename, form.purpose)
            is_described = True
        while len(pending) >= _MESSAGE_BYTES or (body.is_read and pending):
            chunk = bytes(pending[:_MESSAGE_BYTES])
            del pending[:_MESSAGE_BYTES]
            await upload.write(chunk)


class _Body:
    """The request body as it arrives, up to a limit."""

    def __init__(self, headers: Any, receive: Receive, max_file_bytes: int) -> None:
        self.is_read = False
        """Whether its end has been reached."""
        self._headers = headers
        self._receive = receive
        self._max_file_bytes = max_file_bytes
        self._max_bytes = max_file_bytes + _FORM_OVERHEAD_BYTES
        self._size_bytes = 0

    def check_declared_size(self) -> None:
        """Refuse a body that is too large or compressed by its own head, before any of it is read.

        Raises:
            EdgeError: PAYLOAD_TOO_LARGE; INVALID_VALUE if the body is compressed.
        """
        if declared_size(self._headers) > self._max_bytes:
            raise file_too_large(self._max_file_bytes)

    async def read(self, ended: asyncio.Future[None]) -> bytes | None:
        """Return the next piece; None if `ended` is done before one comes.

        Raises:
            EdgeError: PAYLOAD_TOO_LARGE.
            ClientGoneError: the client went away before the end.
        """
        receiving: asyncio.Future[Any] = asyncio.ensure_future(self._receive())
        either: list[asyncio.Future[Any]] = [receiving, ended]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                return None
        finally:
            receiving.cancel()
        message = receiving.result()
        if message["type"] != "http.request":
            raise ClientGoneError
        self.is_read = not message["more_body"]
        data: bytes = message["body"]
        self._size_bytes += len(data)
        if self._size_bytes > self._max_bytes:
            raise file_too_large(self._max_file_bytes)
        return data
