"""POST /embeddings: vectors of texts."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Request

from maniac_edge.http.operation import operation
from maniac_edge.http.responses import AsgiResponse, context_of
from maniac_edge.wires.embeddings.schema import EmbeddingList, EmbeddingsRequest
from maniac_edge.wires.handler import WireHandler


@operation(
    "POST",
    "/embeddings",
    tag="Embeddings",
    body=EmbeddingsRequest,
    response=EmbeddingList,
    errors=(400, 401, 402, 403, 404, 409, 413, 422, 429, 500, 501, 502, 503),
)
async def create_embeddings(
    request: Request[Any, Any, Any], embeddings: WireHandler
) -> AsgiResponse:
    """Create embeddings.

    More texts than a provider takes at once are sent in several requests, and answered in order.
    """
    return AsgiResponse(partial(embeddings.create, context=context_of(request)))


HANDLERS = (create_embeddings,)
