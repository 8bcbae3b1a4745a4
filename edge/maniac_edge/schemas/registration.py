"""Registration of examples that were completed elsewhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import JsonObject

_INPUT = {"$ref": "#/components/schemas/ChatCompletionRequest"}
_OUTPUT = {
    "type": ["object", "null"],
    "required": ["choices"],
    "properties": {
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["message"],
                "properties": {
                    "index": {"type": ["integer", "null"]},
                    "message": {
                        "type": "object",
                        "required": ["role"],
                        "properties": {
                            "role": {"type": "string"},
                            "content": {"type": ["string", "array", "null"]},
                        },
                    },
                    "finish_reason": {"type": ["string", "null"]},
                },
            },
        },
        "id": {"type": ["string", "null"]},
        "created": {"description": "Unix seconds; anything else is the time of the call."},
        "model": {"type": ["string", "null"]},
        "provider": {"type": ["string", "null"]},
        "usage": {"type": ["object", "null"]},
        "spend": {"type": ["number", "null"]},
    },
}


class RegisterItem(msgspec.Struct, forbid_unknown_fields=True):
    """One example."""

    input: Annotated[
        msgspec.Raw,
        Meta(
            description="A chat request. The model is optional, since nothing is called.",
            extra_json_schema=_INPUT,
        ),
    ]
    output: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="A chat completion; absent for an example without an answer. If the project has a record of"
            " its `id`, the item is skipped.",
            extra_json_schema=_OUTPUT,
        ),
    ] = UNSET
    tags: list[str] | None = None
    metadata: JsonObject | UnsetType = UNSET


class RegisterRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Examples for one container."""

    container: Annotated[str, Meta(description="Label, `maniac:label` or id.")]
    items: Annotated[list[RegisterItem], Meta(description="A bad item fails alone.")]


class RegisterUsage(msgspec.Struct):
    """Token counts, summed over the inserted items."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RegisterSummary(msgspec.Struct):
    """The outcome of the items."""

    received: int
    inserted: int
    skipped: Annotated[int, Meta(description="Their `output.id` was there already.")]
    failed: int
    usage: RegisterUsage


class RegisterError(msgspec.Struct):
    """Why one item failed."""

    index: Annotated[int, Meta(description="Position in `items`.")]
    code: str
    message: str


class RegisterResponse(msgspec.Struct):
    """The outcome of a registration."""

    ok: Annotated[bool, Meta(description="Something was inserted, or nothing failed.")]
    container: Annotated[str, Meta(description="Label of the container.")]
    summary: RegisterSummary
    errors: Annotated[list[RegisterError], Meta(description="The first 200.")]
