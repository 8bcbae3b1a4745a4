"""Requests for responses, as far as the gateway reads them. Every further key goes on to a provider that speaks Responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.chat import TraceContext
from maniac_edge.schemas.common import Integer, JsonObject


class ResponsePart(msgspec.Struct):
    """A part of the content of an item."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class ResponseItem(msgspec.Struct):
    """An item of the input. Without `type` it is a message."""

    type: str | None = None
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ResponsePart] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[ResponsePart] | None = None
    encrypted_content: str | None = None


class ResponseToolFormat(msgspec.Struct):
    """The form of the text for a custom tool."""

    type: str
    syntax: str | None = None
    definition: str | None = None


class ResponseTool(msgspec.Struct):
    """A tool. Types `function`, `custom` and `namespace` are the client's own; others run at the provider."""

    type: str
    name: str | None = None
    namespace: str | None = None
    description: str | None = None
    parameters: msgspec.Raw | UnsetType = UNSET
    strict: bool | None = None
    format: ResponseToolFormat | None = None
    tools: list[ResponseTool] | None = None


class ResponseToolChoice(msgspec.Struct):
    """Which tool is to be used."""

    type: str
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[ResponseTool] | None = None


class ResponseFormat(msgspec.Struct):
    """The form of the text."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw | UnsetType = UNSET
    strict: bool | None = None


class ResponseText(msgspec.Struct):
    """Settings of the text."""

    format: ResponseFormat | None = None
    verbosity: str | None = None


class ResponseReasoning(msgspec.Struct):
    """How much to think, and whether a summary of it is wanted."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseCreate(msgspec.Struct):
    """A request for a response. Keys that are not listed go on to a provider that speaks Responses."""

    input: Annotated[
        str | list[ResponseItem], Meta(description="A text, or the items of the conversation.")
    ]
    model: Annotated[
        str | None,
        Meta(
            description="Slug `provider/name`, `maniac:label[:sub-model]`, or the bare name of a model that one"
            " provider serves. If absent, the first of `models`."
        ),
    ] = None
    models: Annotated[
        list[str] | None, Meta(description="Fallbacks, tried in order when a provider fails.")
    ] = None
    instructions: str | None = None
    max_output_tokens: Annotated[Integer | None, Meta(description="Reasoning included.")] = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: ResponseText | None = None
    reasoning: ResponseReasoning | None = None
    include: list[str] | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    tags: Annotated[
        list[str] | None, Meta(description="Labels kept with the completion, not forwarded.")
    ] = None
    metadata: Annotated[JsonObject | UnsetType, Meta(description="Kept with the completion.")] = (
        UNSET
    )
    trace: TraceContext | None = None


class ResponseUsage(msgspec.Struct):
    """Token counts."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, Any]
    output_tokens_details: dict[str, Any]


class Response(msgspec.Struct, kw_only=True):
    """A response."""

    id: str
    object: Literal["response"]
    created_at: Annotated[int, Meta(description="Unix seconds.")]
    status: Literal["completed", "incomplete", "failed", "in_progress", "queued", "cancelled"]
    model: Annotated[str, Meta(description="Slug of the model that answered.")]
    output: list[dict[str, Any]]
    usage: ResponseUsage | None = None
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    provider: str | None = None


class ResponseEvent(msgspec.Struct):
    """An event of a stream."""

    type: str
    sequence_number: int
