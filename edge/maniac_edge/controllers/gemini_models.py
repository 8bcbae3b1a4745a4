"""GET /v1beta/models: the catalogue in Gemini's form."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import models_pb2
from msgspec import Meta

from maniac_edge.core.client import CoreClient
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response
from maniac_edge.requests.validation import invalid_value, read_query

_METHODS = ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"]


class GeminiModelQuery(msgspec.Struct, rename="camel"):
    """A page."""

    page_size: Annotated[int, Meta(ge=1, le=1000)] = 50
    page_token: str | None = None


class GeminiModel(msgspec.Struct, rename="camel"):
    """A model."""

    name: Annotated[str, Meta(description="`models/` and its slug.")]
    display_name: str
    supported_generation_methods: list[str]


class GeminiModelList(msgspec.Struct, rename="camel", omit_defaults=True):
    """A page of models."""

    models: list[GeminiModel]
    next_page_token: str | None = None


class GoogleStatus(msgspec.Struct):
    """What went wrong."""

    code: int
    message: str
    status: str


class GoogleError(msgspec.Struct):
    """The body of a failed request."""

    error: GoogleStatus


@operation(
    "GET",
    "/v1beta/models",
    tag="Models",
    query=GeminiModelQuery,
    response=GeminiModelList,
    response_description="A page of models.",
    error=GoogleError,
    errors=(400, 401, 403, 429, 500, 501, 503),
)
async def list_gemini_models(request: Request[Any, Any, Any], core: CoreClient) -> Response[bytes]:
    """List models in Gemini's form.

    For clients of Gemini's API: any model may be asked at `/v1beta/models/{model}:generateContent`.
    """
    with invalid_value():
        query = read_query(request.scope["query_string"], GeminiModelQuery)
    page = await core.call(
        core.models.ListModels,
        models_pb2.ListModelsRequest(page_size=query.page_size, page_token=query.page_token or ""),
        context_of(request),
    )
    models = [
        GeminiModel(f"models/{model.id}", model.display_name or model.id, _METHODS)
        for model in page.models
    ]
    return json_response(GeminiModelList(models, page.next_page_token or None))


HANDLERS = (list_gemini_models,)
