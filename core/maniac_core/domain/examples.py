"""Registered examples: what a caller hands in, and the shapes that a request and an answer must have to be kept.

The shapes are those of a chat request (see chat.proto) and of a captured completion, which is open. Unknown keys pass.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from maniac_core.domain.chat import Trace, Usage

MAX_REPORTED_ERRORS = 200


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a registration, not checked yet."""

    index: int
    """Position in the whole call, for reports."""
    input: bytes
    """A chat request, a JSON object."""
    output: bytes | None = None
    """A chat completion, a JSON object. None: an example without an answer."""
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    """A JSON object."""


class ExampleError(msgspec.Struct, frozen=True, kw_only=True):
    """Why one item failed."""

    index: int
    code: str
    """A code of the error table."""
    message: str
    param: str = ""


class RegistrationResult(msgspec.Struct, kw_only=True):
    """The outcome of the items of one call."""

    received: int = 0
    inserted: int = 0
    skipped: int = 0
    """Items whose output.id was there already."""
    failed: int = 0
    usage: Usage = Usage()
    """Sum over the inserted items."""
    errors: list[ExampleError] = []
    """The first of them, at most MAX_REPORTED_ERRORS."""


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(msgspec.Struct):
    """One part of a message's content."""

    type: str | None = None
    text: str | None = None
    image_url: _ImageUrl | None = None
    file: _File | None = None
    input_audio: dict[str, Any] | None = None


class _Called(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    id: str
    function: _Called
    type: Literal["function"] | None = None


class _MessageBody(msgspec.Struct, kw_only=True):
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None


class InputMessage(_MessageBody, kw_only=True):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant", "developer", "tool"]


class OutputMessage(_MessageBody, kw_only=True):
    """An answer's message."""

    role: str


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    function: _Function
    type: Literal["function"] | None = None


class _Name(msgspec.Struct):
    name: str


class _AllowedTool(msgspec.Struct):
    function: _Name
    type: Literal["function"] | None = None


class _AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_AllowedTool]


class _ToolChoice(msgspec.Struct):
    type: Literal["function", "allowed_tools"] | None = None
    function: _Name | None = None
    allowed_tools: _AllowedTools | None = None


class _JsonSchema(msgspec.Struct):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _Reasoning(msgspec.Struct):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Trace(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    source: str | None = None
    metadata: dict[str, Any] | None = None

    def as_trace(self) -> Trace:
        """Return the domain's form."""
        return Trace(
            id=self.id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            name=self.name,
            source=self.source,
            metadata=None
            if self.metadata is None
            else msgspec.Raw(msgspec.json.encode(self.metadata)),
        )


class ExampleInput(msgspec.Struct):
    """A chat request; the model is optional, since nothing is routed."""

    messages: list[InputMessage]
    model: str | None = None
    models: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | float | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    n: int | float | None = None
    seed: int | float | None = None
    stop: str | list[str] | None = None
    reasoning: _Reasoning | None = None
    response_format: ResponseFormat | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    trace: _Trace | None = None


class OutputChoice(msgspec.Struct):
    """One answer."""

    message: OutputMessage
    index: int | float | None = None
    finish_reason: str | None = None


class ExampleOutput(msgspec.Struct):
    """A chat completion as it is listed, or as a provider answered it."""

    choices: list[OutputChoice]
    id: str | None = None
    created: Any = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    provider: str | None = None
    container: str | None = None
    model_id: str | None = None
    spend: int | float | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    trace: _Trace | None = None
