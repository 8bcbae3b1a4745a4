"""Chat completion requests as clients send them.

Every optional field takes null for "not given", and null for a required one is the same as its absence. Keys that are not
declared here stay in the request: see `convert.chat`, which also sends what is declared in the order of this file.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import Integer, JsonObject

Role = Literal["system", "user", "assistant", "developer", "tool"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ImageUrl(msgspec.Struct, omit_defaults=True):
    """Where an image is."""

    url: Annotated[str, Meta(description="An https URL or a data URL.")]
    detail: str | None = None


class FilePart(msgspec.Struct, omit_defaults=True):
    """A file inside a message."""

    file_data: Annotated[str | None, Meta(description="A data URL.")] = None
    file_id: str | None = None
    filename: str | None = None


class ContentPart(msgspec.Struct, omit_defaults=True):
    """One part of a message's content. Without `type`, the key that is present tells it."""

    type: Annotated[
        str | None,
        Meta(extra_json_schema={"enum": ["text", "image_url", "file", "input_audio", None]}),
    ] = None
    text: str | UnsetType | None = UNSET
    image_url: ImageUrl | UnsetType | None = UNSET
    file: FilePart | UnsetType | None = UNSET
    input_audio: Annotated[
        JsonObject | UnsetType, Meta(description="Accepted and dropped by the gateway.")
    ] = UNSET


class CalledFunction(msgspec.Struct, omit_defaults=True):
    """The function that a tool call names."""

    name: str
    arguments: Annotated[str, Meta(description="JSON text, as the model wrote it.")]


class ToolCall(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A call that the model made."""

    id: str
    type: Literal["function"] | None = None
    function: CalledFunction


class Message(msgspec.Struct, omit_defaults=True):
    """One message of the conversation. Further keys are accepted."""

    role: Role
    content: str | list[ContentPart] | UnsetType | None = UNSET
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Annotated[str | None, Meta(description="For role tool.")] = None
    reasoning: str | None = None
    reasoning_details: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="Signed or redacted thinking, sent back as it came.",
            extra_json_schema={"type": ["array", "null"], "items": {"type": "object"}},
        ),
    ] = UNSET
    refusal: str | None = None


class Function(msgspec.Struct, omit_defaults=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: Annotated[
        JsonObject | UnsetType, Meta(description="JSON Schema of the arguments.")
    ] = UNSET
    strict: bool | None = None


class Tool(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A tool that the model may use."""

    type: Literal["function"] | None = None
    function: Function


class NamedFunction(msgspec.Struct, omit_defaults=True):
    """The name of one function."""

    name: str


class AllowedTool(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A function that may be called."""

    type: Literal["function"] | None = None
    function: NamedFunction


class AllowedTools(msgspec.Struct, omit_defaults=True):
    """The functions that may be called, and whether one must be."""

    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class ToolChoice(msgspec.Struct, omit_defaults=True):
    """Makes the model call one function, or lets it call only some. Without `type`, the key that is present tells it."""

    type: Literal["function", "allowed_tools"] | None = None
    function: Annotated[NamedFunction | None, Meta(description="For type function.")] = None
    allowed_tools: Annotated[AllowedTools | None, Meta(description="For type allowed_tools.")] = (
        None
    )


class JsonSchemaFormat(msgspec.Struct, omit_defaults=True):
    """The schema that an answer must match."""

    name: str
    description: str | None = None
    schema: JsonObject | UnsetType = UNSET
    strict: Annotated[bool | None, Meta(description="Accepted and dropped.")] = None


class ResponseFormat(msgspec.Struct, omit_defaults=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Annotated[
        JsonSchemaFormat | None, Meta(description="Required for type json_schema.")
    ] = None


class Reasoning(msgspec.Struct, omit_defaults=True):
    """How much to think. Further keys are passed on."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(msgspec.Struct, omit_defaults=True):
    """Ignored when not streaming."""

    include_usage: Annotated[
        bool | None, Meta(description="Whether a last chunk carries the usage.")
    ] = None


class TraceContext(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The external trace that the request belongs to."""

    id: str
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    source: str | None = None
    metadata: JsonObject | UnsetType = UNSET


class ChatCompletionRequest(msgspec.Struct, omit_defaults=True):
    """A chat request. Keys that are not listed are passed on to the provider."""

    messages: Annotated[list[Message], Meta(description="The conversation, at least one message.")]
    model: Annotated[
        str | None,
        Meta(
            description="Slug `provider/name`, or `maniac:label[:sub-model]` for a container; `/` and `:` are the same."
            " If absent, the first of `models`."
        ),
    ] = None
    models: Annotated[
        list[str] | None, Meta(description="Fallbacks, tried in order when a provider fails.")
    ] = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    logit_bias: Annotated[dict[str, float] | None, Meta(description="Bias by token id.")] = None
    logprobs: Annotated[bool | None, Meta(description="Accepted and dropped.")] = None
    top_logprobs: Annotated[Integer | None, Meta(description="Accepted and dropped.")] = None
    max_tokens: Integer | None = None
    max_completion_tokens: Annotated[
        Integer | None, Meta(description="Reasoning included; wins over `max_tokens`.")
    ] = None
    reasoning: Reasoning | None = None
    response_format: ResponseFormat | None = None
    seed: Integer | None = None
    stop: str | list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    n: Annotated[Integer | None, Meta(description="Only 1 is served.")] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tags: Annotated[
        list[str] | None, Meta(description="Labels kept with the completion, not forwarded.")
    ] = None
    metadata: Annotated[
        JsonObject | UnsetType, Meta(description="Kept with the completion, not forwarded.")
    ] = UNSET
    store: Annotated[
        bool | None, Meta(description="Whether the content is kept. Null is true.")
    ] = None
    trace: TraceContext | None = None
