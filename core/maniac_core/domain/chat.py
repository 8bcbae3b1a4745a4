"""A chat request and its answer, as values between the RPC layer, the services and the dialects.

Messages and parameters are JSON-shaped dictionaries in OpenAI's form: they are merged by key, forwarded and stored
as JSON, and unknown keys must survive unchanged (their values are `msgspec.Raw`). What the core decides on is typed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

JsonObject = dict[str, Any]
Wire = Literal["chat", "responses", "messages", "gemini", "completions", "embeddings"]
"""An API by which clients speak to the gateway. What differs from chat is translated at the edge."""

STREAMED_EXTRAS = ("annotations", "audio", "images")
"""Keys of an answer's message, beside those that are typed, that a stream carries too."""
RESULT_MEDIA = "result_media"
"""Key of a tool message whose result holds more than text, which chat has no place for."""
MAX_TAGS = 256
"""Of one completion: each is a row in the daily sums."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The external trace a request belongs to."""

    id: str
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    source: str | None = None
    metadata: msgspec.Raw | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A captured request that is sent once more as it was."""

    of: str
    """Id of the completion."""
    container: str | None
    """Label of the container that it went through, which adds nothing again."""


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its client sent it, on a wire other than chat: for a provider that speaks the same API."""

    body: msgspec.Raw
    """A JSON object."""
    only: tuple[str, ...] = ()
    """Fields that are dropped where another API is spoken."""
    required: str | None = None
    """A field that may not be dropped."""
    is_whole: bool = True
    """Whether it holds the whole conversation; if not, it is only kept with the record."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's request."""

    messages: list[JsonObject]
    """OpenAI message objects; at least one."""
    model: str | None
    """Slug as it came; None: the first of `fallbacks`."""
    fallbacks: tuple[str, ...] = ()
    parameters: JsonObject = {}
    """Every other key of the request in OpenAI's form: temperature, tools, response_format, unknown ones, …"""
    include_usage: bool = False
    stream_options: msgspec.Raw | None = None
    """As they came, a JSON object: kept with the record."""
    replay: Replay | None = None
    """Set where it is a captured request, sent once more."""
    tags: tuple[str, ...] = ()
    metadata: msgspec.Raw | None = None
    """A JSON object."""
    store: bool = True
    trace: Trace | None = None
    wire: Wire = "chat"
    native: Native | None = None
    """None: on the wire chat, and where a captured request is sent once more."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts in buckets that do not overlap, so that each token has one price."""

    input_tokens: int = 0
    """Prompt tokens that were neither read from nor written to a cache."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Written with the provider's default lifetime (5 minutes at Anthropic)."""
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    """Generated tokens without reasoning."""
    reasoning_tokens: int = 0
    input_audio_tokens: int | None = None
    """Part of input_tokens. None: not reported."""
    output_audio_tokens: int | None = None
    """Part of output_tokens. None: not reported."""
    cost_nano_usd: int | None = None
    """The charge that the provider reports. None: not reported."""
    service_tier: str | None = None
    """The provider's class of service if it has prices of its own: flex, priority, fast. None: the standard one."""

    @property
    def prompt_tokens(self) -> int:
        """All prompt tokens, as OpenAI counts them."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.cache_write_1h_tokens
        )

    @property
    def completion_tokens(self) -> int:
        """All generated tokens, as OpenAI counts them."""
        return self.output_tokens + self.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a tool call that one stream step adds."""

    index: int
    """0..n-1 within the message."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    extra: JsonObject | None = None
    """Further keys of the call, such as extra_content."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """Why an answer ended, in its provider's words."""

    reason: str
    stop_sequence: str | None = None
    """The sequence of the request that ended it."""


class ChoiceDelta(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a choice that one stream step adds."""

    index: int = 0
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[JsonObject] | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()
    refusal: str | None = None
    extra: JsonObject | None = None
    """The fields of `STREAMED_EXTRAS` that are present, as they came."""
    finish_reason: str | None = None
    """stop, length, tool_calls or content_filter."""
    ending: Ending | None = None
    """Beside a finish reason. None: the provider says no more than that."""

    @property
    def has_content(self) -> bool:
        """Whether a client could show something of it; after the first such delta no fallback is possible."""
        return bool(
            self.content
            or self.reasoning
            or self.reasoning_details
            or self.tool_calls
            or self.refusal
            or self.extra
        )


BlockKind = Literal["reasoning", "text", "tool_call"]
Block = tuple[BlockKind, int]
"""A part of a message's content, and how much it has: characters of text or reasoning, or calls."""


class Choice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One whole answer."""

    index: int
    message: JsonObject
    """An OpenAI message object; role, content, and what else there is."""
    finish_reason: str | None
    ending: Ending | None = None
    blocks: tuple[Block, ...] = ()
    """The order of the message's content. Empty: reasoning, text, refusal, tool calls."""


def delta_of(choice: Choice) -> ChoiceDelta:
    """Return a whole answer as one stream step."""
    message = choice.message
    return ChoiceDelta(
        index=choice.index,
        content=message.get("content"),
        reasoning=message.get("reasoning"),
        reasoning_details=message.get("reasoning_details"),
        tool_calls=tuple(
            ToolCallDelta(
                index=position,
                id=call.get("id"),
                name=call["function"]["name"],
                arguments=call["function"]["arguments"],
                extra={key: call[key] for key in call.keys() - {"id", "type", "function"}} or None,
            )
            for position, call in enumerate(message.get("tool_calls") or ())
        ),
        refusal=message.get("refusal"),
        extra={key: message[key] for key in STREAMED_EXTRAS if message.get(key)} or None,
        finish_reason=choice.finish_reason,
        ending=choice.ending,
    )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's whole answer, normalised."""

    choices: list[Choice]
    usage: Usage | None = None
    upstream_model: str | None = None
    """The model as the provider names it in its answer."""
    native: bytes | None = None
    """The body as it came, if the request was native."""
    vectors: list[list[float]] | None = None
    """One per text, in their order, if the request was for embeddings."""


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole answer as the caller gets it."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    """Slug that served it."""
    provider: str
    container: str | None
    """Bare label."""
    choices: list[Choice]
    usage: Usage
    native: bytes | None = None
    """The answer in the form of the request's wire, as its provider made it."""
    vectors: list[list[float]] | None = None
    """One per text, in their order, if the request was for embeddings; `choices` is empty then."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a streamed answer as the caller gets it; the identity is the same on every step."""

    id: str
    created: int
    model: str
    provider: str
    container: str | None
    choices: tuple[ChoiceDelta, ...] = ()
    usage: Usage | None = None
    native: bytes = b""
    """An event in the form of the request's wire. An answer has these in all chunks, or in none."""
