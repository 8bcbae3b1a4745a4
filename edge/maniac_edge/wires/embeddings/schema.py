"""Requests for embeddings as clients send them, and the answers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.chat import TraceContext
from maniac_edge.schemas.common import Integer, JsonObject


class EmbeddingsRequest(msgspec.Struct, omit_defaults=True):
    """A request for embeddings. Keys that are not listed are passed on to the provider."""

    input: Annotated[
        str | list[str | int | list[int]],
        Meta(description="A text, several, or token ids of one or of several."),
    ]
    model: Annotated[
        str | None,
        Meta(description="Slug `provider/name`. If absent, the first of `models`."),
    ] = None
    models: Annotated[
        list[str] | None, Meta(description="Fallbacks, tried in order when a provider fails.")
    ] = None
    dimensions: Integer | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    tags: Annotated[
        list[str] | None, Meta(description="Labels kept with the record, not forwarded.")
    ] = None
    metadata: Annotated[
        JsonObject | UnsetType, Meta(description="Kept with the record, not forwarded.")
    ] = UNSET
    store: Annotated[
        bool | None, Meta(description="Whether the texts are kept. Null is false.")
    ] = None
    trace: TraceContext | None = None


class Embedding(msgspec.Struct):
    """The vector of one text."""

    index: int
    embedding: Annotated[
        list[float] | str, Meta(description="Numbers, or base64 of little-endian 32-bit floats.")
    ]
    object: Literal["embedding"] = "embedding"


class EmbeddingsUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct):
    """Vectors, in the order of the texts."""

    data: list[Embedding]
    model: Annotated[str, Meta(description="Slug of the model that made them.")]
    provider: str
    usage: EmbeddingsUsage
    object: Literal["list"] = "list"
