"""Chat completions as the gateway answers them: whole, in chunks, and as captured records."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import Offset

FinishReason = Annotated[
    str | None,
    Meta(
        description="`error` only on records of failed calls.",
        extra_json_schema={
            "enum": ["stop", "length", "tool_calls", "content_filter", "error", None]
        },
    ),
]


class PromptTokensDetails(msgspec.Struct, omit_defaults=True):
    """The kinds of the prompt's tokens; a kind that was not reported is left out."""

    cached_tokens: int | UnsetType = UNSET
    cache_write_tokens: int | UnsetType = UNSET
    audio_tokens: int | UnsetType = UNSET


class CompletionTokensDetails(msgspec.Struct, omit_defaults=True):
    """The kinds of the generated tokens; a kind that was not reported is left out."""

    reasoning_tokens: int | UnsetType = UNSET
    audio_tokens: int | UnsetType = UNSET


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class Choice(msgspec.Struct):
    """One answer."""

    index: int
    message: Annotated[
        dict[str, Any],
        Meta(
            description="`role`, `content`, and when present `reasoning` and the same as `reasoning_content`, `reasoning_details`, `tool_calls`, `refusal`."
        ),
    ]
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: Annotated[str, Meta(description="The slug that served the request.")]
    provider: Annotated[str | None, Meta(description="The upstream that served it.")]
    container: Annotated[str | None, Meta(description="Label of the container routed through.")]
    choices: list[Choice]
    usage: Usage | None


class Delta(msgspec.Struct, omit_defaults=True):
    """The part of a choice that one chunk adds."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: Annotated[
        str | UnsetType,
        Meta(description="The same as `reasoning`, for clients that read this name."),
    ] = UNSET
    reasoning_details: Annotated[
        msgspec.Raw | UnsetType,
        Meta(extra_json_schema={"type": "array", "items": {"type": "object"}}),
    ] = UNSET
    tool_calls: Annotated[
        list[dict[str, Any]] | UnsetType,
        Meta(
            description="`index`, and on the first piece `id` and `type`; `function` with `name` and `arguments`."
        ),
    ] = UNSET
    refusal: str | UnsetType = UNSET
    annotations: Annotated[
        msgspec.Raw | UnsetType,
        Meta(extra_json_schema={"type": "array", "items": {"type": "object"}}),
    ] = UNSET
    audio: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="Pieces of `data` (base64, each by itself) and `transcript`.",
            extra_json_schema={"type": "object"},
        ),
    ] = UNSET
    images: Annotated[
        msgspec.Raw | UnsetType,
        Meta(extra_json_schema={"type": "array", "items": {"type": "object"}}),
    ] = UNSET


class ChunkChoice(msgspec.Struct):
    """One choice of a chunk."""

    index: int
    delta: Delta
    finish_reason: FinishReason
    logprobs: None = None


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """One step of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: str
    provider: str | None
    container: str | None
    choices: Annotated[list[ChunkChoice], Meta(description="Empty on the usage chunk.")]
    usage: Annotated[
        Usage | UnsetType | None,
        Meta(description="Only when asked for: null, and set on the last chunk."),
    ] = UNSET


class Trace(msgspec.Struct):
    """The external trace that a record belongs to."""

    id: str
    span_id: str | None
    parent_span_id: str | None
    name: str | None
    source: str | None
    metadata: Annotated[msgspec.Raw | None, Meta(extra_json_schema={"type": ["object", "null"]})]


class CompletionError(msgspec.Struct):
    """Why a completion failed."""

    code: str | None
    message: Annotated[str | None, Meta(description="The message that the caller received.")]


class StoredChatCompletion(msgspec.Struct, kw_only=True):
    """A captured completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: str | None
    provider: str | None
    container: str | None
    choices: list[Choice]
    usage: Usage | None
    model_id: Annotated[str | None, Meta(description="UUID of the model.")]
    spend: Annotated[float | None, Meta(description="Estimated, in USD; null: unknown price.")]
    tags: list[str]
    metadata: Annotated[msgspec.Raw | None, Meta(extra_json_schema={"type": ["object", "null"]})]
    trace: Trace | None
    status: Annotated[
        str | None,
        Meta(description="completed, failed, cancelled, truncated, rejected or registered."),
    ]
    usage_source: Annotated[
        str | None, Meta(description="Who counted the tokens: provider, estimated or caller.")
    ]
    time_to_first_token_ms: float | None
    latency_ms: float
    error: Annotated[
        CompletionError | None, Meta(description="Why it failed or broke off; null: it did not.")
    ]
    replay_of: Annotated[
        str | None, Meta(description="Id of the completion that this one sent once more.")
    ]
    unreadable: Annotated[
        list[str],
        Meta(
            description="Parts that cannot be shown, and are left out: choices, metadata, tags, trace or usage."
        ),
    ]
    wire: Annotated[
        str,
        Meta(
            description="The API by which it was asked for: chat, responses, messages, gemini, completions or embeddings."
        ),
    ]


class ChatCompletionDeleted(msgspec.Struct, kw_only=True):
    """A completion whose content was deleted."""

    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    id: str
    deleted: Literal[True] = True


class ChatCompletionList(msgspec.Struct, kw_only=True):
    """A page of captured completions."""

    object: Literal["list"] = "list"
    data: list[StoredChatCompletion]
    total: Annotated[int, Meta(ge=0, description="How many match in all.")]


class ChatReplay(msgspec.Struct, forbid_unknown_fields=True):
    """How a captured request is sent once more."""

    model: Annotated[
        str | None, Meta(description="Slug of another model; null: the one that served it.")
    ] = None
    stream: Annotated[bool | None, Meta(description="Whether to stream; null is false.")] = None


class StoredMessage(msgspec.Struct, kw_only=True):
    """A message of a captured request; beside these keys what else the message had."""

    id: Annotated[str, Meta(description="The completion's id, a hyphen, and the position from 0.")]
    role: str
    content: Annotated[
        Any, Meta(extra_json_schema={"type": ["string", "array", "null"], "items": {}})
    ]


class StoredMessageList(msgspec.Struct, kw_only=True):
    """A page of the messages of a captured request."""

    object: Literal["list"] = "list"
    data: list[StoredMessage]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredMessagesQuery(msgspec.Struct):
    """Query of the messages of a captured request."""

    limit: Annotated[int, Meta(ge=1, le=100, description="Size of the page.")] = 20
    order: Annotated[
        Literal["asc", "desc"], Meta(description="By their position in the request.")
    ] = "asc"
    after: Annotated[str | None, Meta(description="Id of the last message of the page before.")] = (
        None
    )


class ChatCompletionQuery(msgspec.Struct):
    """Query of the list."""

    limit: Annotated[int, Meta(ge=1, le=100, description="Size of the page.")] = 20
    offset: Offset = 0
    model: Annotated[str | None, Meta(description="Slug of the model.")] = None
    container: Annotated[str | None, Meta(description="Label, `maniac:label` or id.")] = None
    order: Annotated[
        Literal["asc", "desc"],
        Meta(
            description="`desc`: by time of creation. `asc`: in the order in which they were committed, so that who asks"
            " on by `after` misses nothing."
        ),
    ] = "desc"
    after: Annotated[
        str | None, Meta(description="Id of the last completion of the page before.")
    ] = None
