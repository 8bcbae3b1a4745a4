"""Requests of Anthropic's Messages API, as far as the gateway reads them. Every further key is passed on to Anthropic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.chat import TraceContext
from maniac_edge.schemas.common import Integer, JsonObject


class BlockSource(msgspec.Struct):
    """Where the bytes of an image or a document are."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[MessageBlock] | None = None


class MessageBlock(msgspec.Struct):
    """A block of content."""

    type: str
    text: str | None = None
    source: BlockSource | str | None = None
    title: str | None = None
    context: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    content: str | list[MessageBlock] | dict[str, Any] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: msgspec.Raw | UnsetType = UNSET


class MessageTurn(msgspec.Struct):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[MessageBlock]


class MessageTool(msgspec.Struct):
    """A tool. Without `type`, or of type `custom`, it is the client's own; others run at Anthropic."""

    name: Annotated[
        str | None, Meta(description="Required for the client's own; some others have none.")
    ] = None
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw | UnsetType = UNSET
    strict: bool | None = None
    cache_control: msgspec.Raw | UnsetType = UNSET


class MessageToolChoice(msgspec.Struct):
    """Which tool is to be used."""

    type: Annotated[
        str, Meta(description="`auto`, `any`, `tool` or `none`; others are for Anthropic alone.")
    ]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessageThinking(msgspec.Struct):
    """How much to think."""

    type: str
    budget_tokens: Integer | None = None


class MessageOutputFormat(msgspec.Struct):
    """The form of the answer."""

    type: str
    schema: msgspec.Raw | UnsetType = UNSET


class MessageOutputConfig(msgspec.Struct):
    """How much effort, and in which form."""

    effort: Annotated[
        str | None,
        Meta(
            description="`low`, `medium`, `high`, `xhigh` or `max`; others are for Anthropic alone."
        ),
    ] = None
    format: MessageOutputFormat | None = None


class MessagesRequest(msgspec.Struct):
    """A request for a message. Keys that are not listed are passed on to Anthropic."""

    messages: Annotated[
        list[MessageTurn], Meta(description="The conversation, at least one message.")
    ]
    max_tokens: Annotated[
        Integer, Meta(description="Limit of generated tokens, thinking included.")
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
    system: str | list[MessageBlock] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[MessageTool] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: MessageThinking | None = None
    output_config: MessageOutputConfig | None = None
    tags: Annotated[
        list[str] | None, Meta(description="Labels kept with the completion, not forwarded.")
    ] = None
    maniac_metadata: Annotated[
        JsonObject | UnsetType, Meta(description="Kept with the completion, not forwarded.")
    ] = UNSET
    store: Annotated[
        bool | None, Meta(description="Whether the content is kept. Null is true.")
    ] = None
    trace: TraceContext | None = None


class MessagesCount(MessagesRequest, kw_only=True):
    """A request for the number of tokens of a prompt."""

    max_tokens: Integer | None = None  # type: ignore[assignment]


class TokenCount(msgspec.Struct):
    """The tokens of a prompt."""

    input_tokens: int


class MessageUsage(msgspec.Struct):
    """Tokens, each counted once."""

    input_tokens: Annotated[int, Meta(description="Neither read from a cache nor written to one.")]
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class MessageAnswer(msgspec.Struct, kw_only=True):
    """A message of the model."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: Annotated[str, Meta(description="Slug of the model that answered.")]
    content: list[dict[str, Any]]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(msgspec.Struct):
    """An event of a stream, in Anthropic's form."""

    type: str


class MessageErrorBody(msgspec.Struct):
    """The error."""

    type: str
    message: str


class MessageError(msgspec.Struct):
    """The body of a failed request."""

    type: Literal["error"]
    error: MessageErrorBody
    request_id: str
