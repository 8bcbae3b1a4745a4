"""Requests for legacy completions as clients send them, and the answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.chat import StreamOptions, TraceContext
from maniac_edge.schemas.common import Integer, JsonObject


class CompletionCreate(msgspec.Struct):
    """A request for a legacy completion. It is answered through chat: the prompt is a message of the user."""

    prompt: Annotated[str | list[str], Meta(description="A text, or one text in a list.")]
    model: Annotated[
        str | None, Meta(description="Slug `provider/name`. If absent, the first of `models`.")
    ] = None
    models: Annotated[
        list[str] | None, Meta(description="Fallbacks, tried in order when a provider fails.")
    ] = None
    max_tokens: Integer | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: Integer | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Integer | None, Meta(description="Only 1 is served.")] = None
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


class TextChoice(msgspec.Struct):
    """The text."""

    text: str
    index: int
    finish_reason: str | None
    logprobs: None = None


class TextCompletion(msgspec.Struct):
    """A completion, or a step of a streamed one."""

    id: str
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: Annotated[str, Meta(description="Slug of the model that answered.")]
    choices: list[TextChoice]
    provider: str | None = None
    usage: dict[str, Any] | None = None
    object: Literal["text_completion"] = "text_completion"
