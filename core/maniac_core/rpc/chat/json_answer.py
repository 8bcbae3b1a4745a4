"""Conversion of chat answers: from the domain's values to the JSON and the events that clients get."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import (
    STREAMED_EXTRAS,
    Choice,
    ChoiceDelta,
    Chunk,
    Completion,
    JsonObject,
    ToolCallDelta,
    Usage,
)

_encode = msgspec.json.Encoder().encode
_PLAIN = {"role", "content"}
_MESSAGE_KEYS = frozenset(
    {*_PLAIN, "name", "tool_call_id", "reasoning", "refusal", "reasoning_details", "tool_calls"}
)
_PART_KEYS = frozenset({"type", "text", "image_url", "file"})
_CALL_KEYS = frozenset({"id", "type", "function", "index"})


def completion_to_json(completion: Completion) -> bytes:
    """Return a whole answer."""
    choices = [_choice(choice) for choice in completion.choices]
    return _encode(whole_json(completion, choices, usage_json(completion.usage)))


def whole_json(completion: Completion, choices: list[JsonObject], usage: JsonObject) -> JsonObject:
    """Return a whole answer, put together."""
    return {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "provider": completion.provider or None,
        "container": completion.container or None,
        "choices": choices,
        "usage": usage,
    }


def _choice(choice: Choice) -> JsonObject:
    return {
        "index": choice.index,
        "message": message_json(choice.message),
        "finish_reason": choice.finish_reason or None,
        "logprobs": None,
    }


def message_json(message: JsonObject) -> JsonObject:
    """Return a message of an answer."""
    role, content = message.get("role") or "assistant", message.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    if message.keys() <= _PLAIN:
        return {"role": role, "content": content}
    result = {"role": role, "content": content}
    for name in ("name", "tool_call_id", "reasoning", "refusal"):
        if (value := message.get(name)) is not None:
            result[name] = value
    if "reasoning" in result:
        # Some clients read only this name.
        result["reasoning_content"] = result["reasoning"]
    if details := message.get("reasoning_details"):
        result["reasoning_details"] = details
    if calls := message.get("tool_calls"):
        result["tool_calls"] = [_call(call) for call in calls]
    return {**_further(message, _MESSAGE_KEYS), **result}


def _part(part: JsonObject) -> JsonObject:
    result = {**_further(part, _PART_KEYS), "type": part.get("type") or "text"}
    if (text := part.get("text")) is not None:
        result["text"] = text
    image, file = part.get("image_url"), part.get("file")
    if isinstance(image, dict):
        result["image_url"] = {"url": image.get("url") or ""}
        if image.get("detail"):
            result["image_url"]["detail"] = image["detail"]
    if isinstance(file, dict):
        names = ("file_data", "file_id", "filename")
        result["file"] = {name: file[name] for name in names if file.get(name)}
    return result


def _call(call: JsonObject) -> JsonObject:
    function = call.get("function") or {}
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {
            "name": function.get("name") or "",
            "arguments": function.get("arguments") or "",
        },
        **_further(call, _CALL_KEYS),
    }


def _further(value: JsonObject, known: frozenset[str]) -> JsonObject:
    return {key: item for key, item in value.items() if key not in known}


def usage_json(usage: Usage) -> JsonObject:
    """Return counts in OpenAI's form."""
    prompt: JsonObject = {"cached_tokens": usage.cache_read_tokens}
    if written := usage.cache_write_tokens + usage.cache_write_1h_tokens:
        prompt["cache_write_tokens"] = written
    if usage.input_audio_tokens is not None:
        prompt["audio_tokens"] = usage.input_audio_tokens
    generated: JsonObject = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.output_audio_tokens is not None:
        generated["audio_tokens"] = usage.output_audio_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": generated,
    }


class ChunkEncoder:
    """Encodes the chunks of one stream as events, by the thousand a second.

    A chunk repeats what is the same in the whole stream, so that part is encoded once, and a plain piece of text goes
    without a dictionary.
    """

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head = b""
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def events(self, chunks: list[Chunk]) -> bytes:
        """Return an event per choice, and one for usage if it was asked for."""
        if not self._head:
            self._head = event_head(chunks[0])
        events: list[bytes] = []
        for chunk in chunks:
            for delta in chunk.choices:
                events += (self._head, _delta(delta), self._tail)
            if self._include_usage and chunk.usage is not None:
                events += (self._head, b'],"usage":', _encode(usage_json(chunk.usage)), b"}\n\n")
        return b"".join(events)


def event_head(chunk: Chunk) -> bytes:
    """Return what all events of a stream begin with."""
    identity = {
        "id": chunk.id,
        "object": "chat.completion.chunk",
        "created": chunk.created,
        "model": chunk.model,
        "provider": chunk.provider or None,
        "container": chunk.container or None,
    }
    return b"data: " + _encode(identity)[:-1] + b',"choices":['


def _delta(delta: ChoiceDelta) -> bytes:
    if delta.content is not None and delta == ChoiceDelta(content=delta.content):
        text = _encode(delta.content)
        return b'{"index":0,"delta":{"content":%b},"finish_reason":null,"logprobs":null}' % text
    return _encode(choice_json(delta, delta_json(delta)))


def delta_json(delta: ChoiceDelta) -> JsonObject:
    """Return what a step adds to the message."""
    added: JsonObject = {}
    for name in ("role", "content", "reasoning"):
        if (value := getattr(delta, name)) is not None:
            added[name] = value
    if delta.reasoning is not None:
        # Some clients read only this name.
        added["reasoning_content"] = delta.reasoning
    if delta.reasoning_details:
        added["reasoning_details"] = delta.reasoning_details
    if delta.tool_calls:
        added["tool_calls"] = [_call_delta(call) for call in delta.tool_calls]
    if delta.refusal is not None:
        added["refusal"] = delta.refusal
    if delta.extra:
        added |= {name: delta.extra[name] for name in STREAMED_EXTRAS if name in delta.extra}
    return added


def choice_json(delta: ChoiceDelta, added: JsonObject) -> JsonObject:
    """Return a step of a choice."""
    return {
        "index": delta.index,
        "delta": added,
        "finish_reason": delta.finish_reason,
        "logprobs": None,
    }


def _call_delta(call: ToolCallDelta) -> JsonObject:
    result: JsonObject = {"index": call.index}
    if call.id is not None:
        result["id"] = call.id
        result["type"] = "function"
    function = {"arguments": call.arguments}
    if call.name is not None:
        function["name"] = call.name
    result["function"] = function
    return {**call.extra, **result} if call.extra else result
