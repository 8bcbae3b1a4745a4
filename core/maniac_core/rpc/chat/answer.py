"""Conversion of chat answers: from the domain's values to the contract's messages."""

from __future__ import annotations

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.chat import Choice, ChoiceDelta, Chunk, Completion, JsonObject, Trace, Usage

_encode = msgspec.json.Encoder().encode

# The known keys of a message in OpenAI's form.
_MESSAGE_KEYS = frozenset(
    {"role", "content", "name", "tool_calls", "reasoning", "reasoning_details", "refusal"}
)


def trace_to_proto(trace: Trace) -> chat_pb2.TraceContext:
    """Return the contract's form of a trace."""
    return chat_pb2.TraceContext(
        id=trace.id,
        span_id=trace.span_id,
        parent_span_id=trace.parent_span_id,
        name=trace.name,
        source=trace.source,
        metadata_json=bytes(trace.metadata) if trace.metadata is not None else b"",
    )


def usage_to_proto(usage: Usage) -> chat_pb2.Usage:
    """Return the contract's form of a usage."""
    result = chat_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_tokens=usage.cache_read_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        prompt_audio_tokens=usage.input_audio_tokens,
        completion_audio_tokens=usage.output_audio_tokens,
    )
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    if written:
        result.cache_write_tokens = written
    return result


def choice_to_proto(choice: Choice) -> chat_pb2.Choice:
    """Return the contract's form of a whole answer."""
    return chat_pb2.Choice(
        index=choice.index,
        message=message_to_proto(choice.message),
        finish_reason=choice.finish_reason or "",
    )


def message_to_proto(message: JsonObject) -> chat_pb2.ChatMessage:
    """Return the contract's form of an OpenAI message object."""
    result = chat_pb2.ChatMessage(
        role=message.get("role") or "assistant",
        name=message.get("name"),
        reasoning=message.get("reasoning"),
        refusal=message.get("refusal"),
    )
    content = message.get("content")
    if isinstance(content, str):
        result.text = content
    elif isinstance(content, list):
        result.parts.parts.extend(_part_to_proto(part) for part in content)
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        result.tool_calls.add(
            id=call.get("id") or "",
            type="function",
            name=function.get("name") or "",
            arguments=function.get("arguments") or "",
            extra_json=_extra(call, ("id", "type", "function", "index")),
        )
    if message.get("tool_call_id"):
        result.tool_call_id = message["tool_call_id"]
    if message.get("reasoning_details"):
        result.reasoning_details_json = _encode(message["reasoning_details"])
    if not message.keys() <= _MESSAGE_KEYS:
        result.extra_json = _extra(message, (*_MESSAGE_KEYS, "tool_call_id"))
    return result


def _part_to_proto(part: JsonObject) -> chat_pb2.ContentPart:
    result = chat_pb2.ContentPart(type=part.get("type") or "text", text=part.get("text"))
    image = part.get("image_url")
    if isinstance(image, dict):
        result.image_url.url = image.get("url") or ""
        if image.get("detail"):
            result.image_url.detail = image["detail"]
    file = part.get("file")
    if isinstance(file, dict):
        for key in ("file_data", "file_id", "filename"):
            if file.get(key):
                setattr(result.file, key, file[key])
    result.extra_json = _extra(part, ("type", "text", "image_url", "file"))
    return result


def _extra(value: JsonObject, known: tuple[str, ...]) -> bytes:
    extra = {key: item for key, item in value.items() if key not in known}
    return _encode(extra) if extra else b""


def completion_to_proto(completion: Completion) -> chat_pb2.ChatCompletion:
    """Return the contract's form of a whole answer."""
    return chat_pb2.ChatCompletion(
        id=completion.id,
        create_time=Timestamp(seconds=completion.created),
        model=completion.model,
        provider=completion.provider,
        container=completion.container or "",
        choices=[choice_to_proto(choice) for choice in completion.choices],
        usage=usage_to_proto(completion.usage),
    )


def chunk_to_proto(chunk: Chunk) -> chat_pb2.ChatCompletionChunk:
    """Return the contract's form of a stream step."""
    return chat_pb2.ChatCompletionChunk(
        id=chunk.id,
        create_time=Timestamp(seconds=chunk.created),
        model=chunk.model,
        provider=chunk.provider,
        container=chunk.container or "",
        choices=[delta_to_proto(delta) for delta in chunk.choices],
        usage=usage_to_proto(chunk.usage) if chunk.usage is not None else None,
    )


def delta_to_proto(delta: ChoiceDelta) -> chat_pb2.ChoiceDelta:
    """Return the contract's form of what a step adds to a choice."""
    result = chat_pb2.ChoiceDelta(
        index=delta.index,
        role=delta.role,
        content=delta.content,
        reasoning=delta.reasoning,
        refusal=delta.refusal,
        finish_reason=delta.finish_reason,
    )
    if delta.reasoning_details:
        result.reasoning_details_json = _encode(delta.reasoning_details)
    if delta.extra:
        result.extra_json = _encode(delta.extra)
    for call in delta.tool_calls:
        result.tool_calls.add(
            index=call.index,
            id=call.id,
            name=call.name,
            arguments=call.arguments,
            extra_json=_encode(call.extra) if call.extra else b"",
        )
    return result
