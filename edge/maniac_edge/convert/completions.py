"""Chat completions: from the contract's messages to JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2

from maniac_edge.schemas import completions as schema

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
STATUS = {
    number: name.removeprefix("COMPLETION_STATUS_").lower() if number else None
    for name, number in chat_pb2.CompletionStatus.items()
}
USAGE_SOURCE = {
    number: name.removeprefix("USAGE_SOURCE_").lower() if number else None
    for name, number in chat_pb2.UsageSource.items()
}


def stored_to_json(stored: chat_pb2.StoredChatCompletion) -> schema.StoredChatCompletion:
    """Return a captured completion."""
    completion = stored.completion
    first_token_us = stored.time_to_first_token_us
    return schema.StoredChatCompletion(
        id=completion.id,
        created=completion.create_time.seconds,
        model=completion.model or None,
        provider=completion.provider or None,
        container=completion.container or None,
        choices=_choices(completion),
        usage=usage_to_json(completion.usage) if completion.HasField("usage") else None,
        model_id=stored.model_id or None,
        spend=stored.spend_nano_usd / 1e9 if stored.HasField("spend_nano_usd") else None,
        tags=list(stored.tags),
        metadata=msgspec.Raw(stored.metadata_json) if stored.metadata_json else None,
        trace=trace_to_json(stored.trace) if stored.HasField("trace") else None,
        status=STATUS.get(stored.status),
        usage_source=USAGE_SOURCE.get(stored.usage_source),
        time_to_first_token_ms=(
            first_token_us / 1000 if stored.HasField("time_to_first_token_us") else None
        ),
        latency_ms=stored.latency_us / 1000,
        error=error_to_json(stored.error) if stored.HasField("error") else None,
        replay_of=stored.replay_of or None,
        wire=stored.wire or "chat",
        unreadable=list(stored.unreadable),
    )


def error_to_json(error: chat_pb2.CompletionError) -> schema.CompletionError:
    """Return why a completion failed."""
    return schema.CompletionError(code=error.code or None, message=error.message or None)


def messages_to_json(page: chat_pb2.ListChatCompletionMessagesResponse) -> dict[str, Any]:
    """Return a page of the messages of a captured request, in the form of `StoredMessageList`."""
    data = [{"id": message.id, **_message(message.message)} for message in page.messages]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": bool(page.next_page_token),
    }


def _choices(completion: chat_pb2.ChatCompletion) -> list[schema.Choice]:
    return [
        schema.Choice(
            index=choice.index,
            message=_message(choice.message),
            finish_reason=choice.finish_reason or None,
        )
        for choice in completion.choices
    ]


def _message(message: chat_pb2.ChatMessage) -> dict[str, Any]:
    content: Any = None
    kind = message.WhichOneof("content")
    if kind == "text":
        content = message.text
    elif kind == "parts":
        content = [_part(part) for part in message.parts.parts]
    result: dict[str, Any] = {"role": message.role, "content": content}
    for name in ("name", "tool_call_id", "reasoning", "refusal"):
        if message.HasField(name):
            result[name] = getattr(message, name)
    if "reasoning" in result and result["role"] == "assistant":
        # Some clients read only this name.
        result["reasoning_content"] = result["reasoning"]
    if message.reasoning_details_json:
        result["reasoning_details"] = msgspec.Raw(message.reasoning_details_json)
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type or "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **json_members(call.extra_json),
            }
            for call in message.tool_calls
        ]
    # A field of the contract takes precedence over a further key of the same name.
    return {**json_members(message.extra_json), **result} if message.extra_json else result


def _part(part: chat_pb2.ContentPart) -> dict[str, Any]:
    result: dict[str, Any] = {**json_members(part.extra_json), "type": part.type}
    if part.HasField("text"):
        result["text"] = part.text
    if part.HasField("image_url"):
        result["image_url"] = _set_fields(part.image_url)
    if part.HasField("file"):
        result["file"] = _set_fields(part.file)
    return result


def _set_fields(message: chat_pb2.ImageUrl | chat_pb2.FilePart) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


def usage_to_json(usage: chat_pb2.Usage) -> schema.Usage:
    """Return token counts."""
    result = schema.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
    )
    prompt = schema.PromptTokensDetails()
    if usage.HasField("cached_tokens"):
        prompt.cached_tokens = usage.cached_tokens
    if usage.HasField("cache_write_tokens"):
        prompt.cache_write_tokens = usage.cache_write_tokens
    if usage.HasField("prompt_audio_tokens"):
        prompt.audio_tokens = usage.prompt_audio_tokens
    completion = schema.CompletionTokensDetails()
    if usage.HasField("reasoning_tokens"):
        completion.reasoning_tokens = usage.reasoning_tokens
    if usage.HasField("completion_audio_tokens"):
        completion.audio_tokens = usage.completion_audio_tokens
    if prompt != schema.PromptTokensDetails():
        result.prompt_tokens_details = prompt
    if completion != schema.CompletionTokensDetails():
        result.completion_tokens_details = completion
    return result


def trace_to_json(trace: chat_pb2.TraceContext) -> schema.Trace:
    """Return a trace context."""
    return schema.Trace(
        id=trace.id,
        span_id=trace.span_id if trace.HasField("span_id") else None,
        parent_span_id=trace.parent_span_id if trace.HasField("parent_span_id") else None,
        name=trace.name if trace.HasField("name") else None,
        source=trace.source if trace.HasField("source") else None,
        metadata=msgspec.Raw(trace.metadata_json) if trace.metadata_json else None,
    )


def json_members(data: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, unread; none for no text."""
    return _as_object(data) if data else {}
