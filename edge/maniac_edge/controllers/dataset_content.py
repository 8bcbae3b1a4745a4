"""GET /datasets/{dataset_id}/content: from the core's stream to the client, at the client's pace."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import grpc
from litestar import Request, Response, get
from litestar.types import Receive, Scope, Send
from maniac_gateway.v1 import datasets_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.connection import until_gone
from maniac_edge.context import RequestContext
from maniac_edge.convert.datasets import export_request
from maniac_edge.core_client import CoreClient, failed, take_headers
from maniac_edge.errors import ClientGoneError, EdgeError, internal_error
from maniac_edge.responses import context_of
from maniac_edge.schemas.datasets import DatasetContentQuery
from maniac_edge.validation import read_query

_log = logging.getLogger(__name__)


@get("/datasets/{dataset_id:str}/content", include_in_schema=False)
async def get_dataset_content(
    request: Request[Any, Any, Any], dataset_id: str, core: CoreClient, config: EdgeConfig
) -> Response[None]:
    """Answer the items as JSON Lines."""
    context = context_of(request)
    query = read_query(request.scope["query_string"], DatasetContentQuery)
    export = _Export(core, export_request(unquote(dataset_id), query), context, config)
    await export.open()
    etag = export.content_sha256 if query.format == "full" else f"{export.content_sha256}-training"
    return _ContentResponse(export, f'"{etag}"', context)


class _Export:
    """One call of the core, which has answered with the dataset before anything is sent."""

    def __init__(
        self,
        core: CoreClient,
        request: datasets_pb2.ExportDatasetRequest,
        context: RequestContext,
        config: EdgeConfig,
    ) -> None:
        self._context = context
        self._call = core.datasets.ExportDataset(
            request, timeout=config.file_timeout_s, metadata=context.metadata
        )
        self.content_sha256 = ""

    async def open(self) -> None:
        """Wait for the dataset.

        Raises:
            EdgeError: what the core says.
        """
        response = await self._read()
        if response is None:
            raise internal_error()
        take_headers(self._context, await self._call.initial_metadata())
        self.content_sha256 = response.dataset.content_sha256

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

    async def _read(self) -> datasets_pb2.ExportDatasetResponse | None:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as err:
            raise failed(err, self._context) from err
        return None if response is grpc.aio.EOF else response  # type: ignore[return-value]


class _ContentResponse(Response[None]):
    """Sends the lines as they come."""

    def __init__(self, export: _Export, etag: str, context: RequestContext) -> None:
        super().__init__(None)
        self._export = export
        self._etag = etag.encode()
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
            # The head is out. Without a last chunk the connection closes, and the answer cannot look whole.
            self._context.error_code = err.code
            _log.warning("an export broke off: %s", err.message)
        finally:
            self._export.close()

    async def _relay(self, send: Send) -> None:
        headers = [(b"content-type", b"application/jsonl"), (b"etag", self._etag)]
        start: Any = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        chunk = b"" if self._context.is_head else await self._export.chunk()
        while chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await self._export.chunk()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
