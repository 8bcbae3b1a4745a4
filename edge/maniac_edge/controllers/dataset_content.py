"""GET /datasets/{dataset_id}/content: from the core's stream to the client, at the client's pace."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, Response
from litestar.types import Send
from maniac_gateway.v1 import datasets_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.convert.datasets import export_request
from maniac_edge.core.client import CoreClient
from maniac_edge.core.download import CoreDownload, DownloadResponse
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of
from maniac_edge.requests.validation import read_query
from maniac_edge.schemas.datasets import DatasetContentQuery


@operation(
    "GET",
    "/datasets/{dataset_id:str}/content",
    tag="Datasets",
    path_parameters={"dataset_id": "Id of the dataset."},
    query=DatasetContentQuery,
    response=msgspec.Raw,
    media_type="application/jsonl",
    response_description="Lines with `id`, `created`, `model`, `tags`, `metadata`, `input` (the request) and `output`"
    " (the record); of `fine_tuning` with `messages` and `tools`.",
    errors=(400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503),
)
async def get_dataset_content(
    request: Request[Any, Any, Any], dataset_id: str, core: CoreClient, config: EdgeConfig
) -> Response[None]:
    """Download a dataset.

    JSON Lines, one completion each, newest first. `ETag` is `content_sha256`, and the form if it is not `full`. An
    answer whose chunked encoding has no end is broken.
    """
    context = context_of(request)
    query = read_query(request.scope["query_string"], DatasetContentQuery)
    call = core.datasets.ExportDataset(
        export_request(unquote(dataset_id), query),
        timeout=config.file_timeout_s,
        metadata=core.metadata(context),
    )
    export = CoreDownload(call, context)
    sha256 = (await export.open()).dataset.content_sha256
    etag = sha256 if query.format == "full" else f"{sha256}-training"
    return _ContentResponse(export, f'"{etag}"', context)


class _ContentResponse(DownloadResponse):
    """Sends the lines as they come."""

    what = "an export"

    def __init__(
        self,
        export: CoreDownload[datasets_pb2.ExportDatasetResponse],
        etag: str,
        context: RequestContext,
    ) -> None:
        super().__init__(export, context)
        self._etag = etag.encode()

    async def relay(self, send: Send) -> None:
        """Send head and lines."""
        headers = [(b"content-type", b"application/jsonl"), (b"etag", self._etag)]
        start: Any = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        chunk = b"" if self._context.is_head else await self._download.chunk()
        while chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await self._download.chunk()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
