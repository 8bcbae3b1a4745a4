"""The catalogue of models."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.common import Offset


class ModelQuery(msgspec.Struct):
    """Which models; without `limit` and `offset` all of them."""

    limit: Annotated[int, Meta(ge=1, le=100)] | None = None
    offset: Offset | None = None
    after: Annotated[str | None, Meta(description="Id of the last model of the page before.")] = (
        None
    )
    container: Annotated[
        str | None,
        Meta(description="Label or id of a container: its models, and the one it routes to."),
    ] = None


class ModelPricing(msgspec.Struct, kw_only=True):
    """List prices in USD: as decimal strings per token, and as numbers per token; null: unknown, 0: free."""

    prompt: str
    completion: str
    discount: str | None = None
    web_search: str | None = None
    image_output: str | None = None
    input_cache_read: str | None = None
    internal_reasoning: str | None = None
    image: float | None = None
    request: float | None = None
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None


class Model(msgspec.Struct, kw_only=True):
    """One entry of the catalogue."""

    id: Annotated[str, Meta(description="The `model` of a chat request.")]
    object: Literal["model"] = "model"
    slug: Annotated[
        str, Meta(description="Short name; a `model` too if it matches only one entry.")
    ]
    provider: str | None
    created: Annotated[int, Meta(description="Unix seconds; 0: unknown.")]
    owned_by: str
    display_name: str | None
    context_window: int | None
    max_output_tokens: int | None
    input_modalities: list[str] | None
    output_modalities: list[str] | None
    pricing: ModelPricing
    supported_parameters: list[str]
    supported_apis: list[str]


class ModelList(msgspec.Struct, kw_only=True):
    """Models by id."""

    object: Literal["list"] = "list"
    data: list[Model]
    total: Annotated[int, Meta(description="How many there are in all.")]


class AnthropicModelQuery(msgspec.Struct):
    """A page, as Anthropic's clients ask for it."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    after_id: str | None = None
    before_id: str | None = None
