"""How a completion came about."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.completions import Usage


class AttemptError(msgspec.Struct):
    """Why an attempt failed."""

    code: str
    message: Annotated[str | None, Meta(description="Null when content was not stored.")]


class Attempt(msgspec.Struct, kw_only=True):
    """One call of a provider."""

    number: Annotated[int, Meta(description="0 for the first.")]
    provider: str
    model: Annotated[str, Meta(description="The provider's own name of the model.")]
    started_at: Annotated[str, Meta(description="ISO 8601.")]
    outcome: Annotated[
        str,
        Meta(
            extra_json_schema={
                "enum": ["ok", "failed", "timeout", "truncated", "cancelled", "skipped"]
            }
        ),
    ]
    http_status: Annotated[int | None, Meta(description="Null: no answer.")]
    error: AttemptError | None
    time_to_first_token_ms: float | None
    latency_ms: float
    usage: Usage | None
    spend: Annotated[float | None, Meta(description="USD; null: unknown price.")]


class ContainerAddition(msgspec.Struct):
    """The parts of a request that its container added."""

    messages: Annotated[list[int], Meta(description="Positions, from 0.")]
    parameters: Annotated[list[str], Meta(description="Names.")]


class Explanation(msgspec.Struct, kw_only=True):
    """How a request was routed, what was sent, what each attempt did and what it cost."""

    object: Literal["chat.completion.explanation"] = "chat.completion.explanation"
    id: str
    created: Annotated[int, Meta(description="Unix seconds.")]
    request_id: str
    status: Annotated[
        str | None,
        Meta(description="completed, failed, cancelled, truncated, rejected or registered."),
    ]
    error_code: Annotated[str | None, Meta(description="Why it failed.")]
    error_message: Annotated[
        str | None, Meta(description="The caller's message; null if content was not stored.")
    ]
    replay_of: Annotated[
        str | None, Meta(description="Id of the completion that this one sent once more.")
    ]
    stream: bool
    stream_options: Annotated[
        dict[str, Any] | None, Meta(description="As they came; null: none, or not stored.")
    ]
    headers: Annotated[
        dict[str, str],
        Meta(description="Headers that were forwarded to the provider, if content was stored."),
    ]
    requested_model: str
    candidates: Annotated[list[str], Meta(description="Slugs that could serve it, best first.")]
    model: Annotated[
        str | None, Meta(description="The slug that served it, or the last that was tried.")
    ]
    provider: str | None
    container: Annotated[str | None, Meta(description="Label of the container routed through.")]
    parameters: Annotated[
        dict[str, Any] | None,
        Meta(description="As sent, after merging; null when content was not stored."),
    ]
    container_added: Annotated[
        ContainerAddition | None,
        Meta(description="What the container added; null: nothing, or not stored."),
    ]
    dropped_params: Annotated[
        list[str], Meta(description="Parameters that were accepted and not sent.")
    ]
    attempts: list[Attempt]
    prices: Annotated[
        dict[str, Any] | None, Meta(description="USD per token, as decimal text; null: unknown.")
    ]
    usage: Usage | None
    usage_source: Annotated[
        str | None, Meta(description="Who counted the tokens: provider, estimated or caller.")
    ]
    spend: Annotated[float | None, Meta(description="USD; null: unknown price.")]
    time_to_first_token_ms: float | None
    latency_ms: float
    unreadable: Annotated[
        list[str],
        Meta(
            description="Parts that cannot be shown, and are left out: parameters, route or usage."
        ),
    ]
    wire: Annotated[
        str,
        Meta(
            description="The API by which it was asked for: chat, responses, messages, gemini, completions or embeddings."
        ),
    ]
    native_request: Annotated[
        dict[str, Any] | None,
        Meta(
            description="The request as its client sent it on another wire than chat; null: none, or not stored."
        ),
    ]
    native_answer: Annotated[
        str | None,
        Meta(
            description="The answer as its provider made it, JSON or events, if it was passed on so; null: it was not,"
            " or is not stored."
        ),
    ]
