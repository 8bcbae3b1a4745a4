"""What an edge sends to its core, read as the typed contract has it, and answers of that contract as an edge gets them.

It takes nothing but the one form in which requests go to the core, so that a test of what arrives is one of that form.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2, relay_pb2

_SCALARS = {
    "frequency_penalty": float, "presence_penalty": float, "temperature": float, "top_p": float,
    "logprobs": bool, "top_logprobs": int, "max_tokens": int, "max_completion_tokens": int, "seed": int,
    "parallel_tool_calls": bool, "n": int, "store": bool, "model": str,
}  # fmt: skip
_ORDER = [
    "messages", "model", "models", "frequency_penalty", "presence_penalty", "temperature", "top_p", "logit_bias",
    "logprobs", "top_logprobs", "max_tokens", "max_completion_tokens", "reasoning", "response_format", "seed",
    "stop", "tools", "tool_choice", "parallel_tool_calls", "n", "stream_options", "tags", "metadata", "store", "trace",
]  # fmt: skip


def params_of(start: relay_pb2.RelayStart) -> chat_pb2.ChatCompletionParams:
    """Return the request of a call."""
    assert start.wire == relay_pb2.RELAY_WIRE_CHAT
    given = _members(start.body)
    known = [key for key in given if key in _ORDER]
    assert known == sorted(known, key=_ORDER.index), known
    unknown = {key: given.pop(key) for key in list(given) if key not in _ORDER}
    assert not unknown or start.has_unknown_keys
    params = chat_pb2.ChatCompletionParams()
    if unknown:
        params.extra_json = _object(unknown)
    for key, text in given.items():
        value = json.loads(text)
        if key in _SCALARS:
            assert type(value) is _SCALARS[key], (key, text)
            setattr(params, key, value)
        elif key in {"models", "tags"}:
            assert value
            getattr(params, key).extend(value)
        elif key in {"metadata", "stream_options"}:
            setattr(params, f"{key}_json", text)
            if key == "stream_options" and value.get("include_usage") is not None:
                params.include_usage = value["include_usage"]
        elif key == "messages":
            params.messages.extend(_message(item) for item in _items(text))
        elif key == "tools":
            params.tools.extend(_tool(item) for item in _items(text))
        else:
            _PARTS[key](params, value, text)
    return params


def _logit_bias(params: Any, value: Any, _text: bytes) -> None:
    assert value
    params.logit_bias.update(value)


def _stop(params: Any, value: Any, _text: bytes) -> None:
    params.stop.is_scalar = isinstance(value, str)
    params.stop.sequences.extend([value] if isinstance(value, str) else value)


def _reasoning(params: Any, value: Any, text: bytes) -> None:
    params.reasoning.SetInParent()
    members = _members(text)
    for key in ("effort", "summary"):
        if members.pop(key, None) is not None:
            setattr(params.reasoning, key, value[key])
    if members:
        params.reasoning.extra_json = _object(members)


def _response_format(params: Any, value: Any, text: bytes) -> None:
    params.response_format.type = value["type"]
    if "json_schema" in value:
        members = _members(_members(text)["json_schema"])
        if "schema" in members:
            params.response_format.json_schema.schema_json = members["schema"]
        _set(
            params.response_format.json_schema,
            value["json_schema"],
            "name",
            "description",
            "strict",
        )


def _tool_choice(params: Any, value: Any, _text: bytes) -> None:
    if isinstance(value, str):
        params.tool_choice.mode = value
    elif value["type"] == "function":
        params.tool_choice.function_name = value["function"]["name"]
    else:
        allowed = value["allowed_tools"]
        params.tool_choice.allowed_tools.mode = allowed["mode"]
        params.tool_choice.allowed_tools.function_names.extend(
            tool["function"]["name"] for tool in allowed["tools"]
        )


def _trace(params: Any, value: Any, text: bytes) -> None:
    _set(params.trace, value, "id", "span_id", "parent_span_id", "name", "source")
    params.trace.metadata_json = _members(text).get("metadata", b"")


_PARTS = {
    "logit_bias": _logit_bias,
    "stop": _stop,
    "reasoning": _reasoning,
    "response_format": _response_format,
    "tool_choice": _tool_choice,
    "trace": _trace,
}


def _message(text: bytes) -> chat_pb2.ChatMessage:
    members, value = _members(text), json.loads(text)
    assert list(members)[:2] == ["role", "content"], text
    message = chat_pb2.ChatMessage()
    _set(message, value, "role", "name", "tool_call_id", "reasoning", "refusal")
    if isinstance(value["content"], str):
        message.text = value["content"]
    elif value["content"] is not None:
        message.parts.SetInParent()
        message.parts.parts.extend(_part(item) for item in _items(members["content"]))
    if "tool_calls" in value:
        message.tool_calls.extend(_call(item) for item in _items(members["tool_calls"]))
    message.reasoning_details_json = members.get("reasoning_details", b"")
    message.extra_json = _further(members, chat_pb2.ChatMessage, "content", "reasoning_details")
    return message


def _part(text: bytes) -> chat_pb2.ContentPart:
    members, value = _members(text), json.loads(text)
    part = chat_pb2.ContentPart()
    _set(part, value, "type", "text")
    if "image_url" in value:
        part.image_url.SetInParent()
        _set(part.image_url, value["image_url"], *value["image_url"])
    if "file" in value:
        part.file.SetInParent()
        _set(part.file, value["file"], *value["file"])
    part.extra_json = _further(members, chat_pb2.ContentPart)
    return part


def _call(text: bytes) -> chat_pb2.ToolCall:
    members, value = _members(text), json.loads(text)
    call = chat_pb2.ToolCall(**value["function"])
    _set(call, value, "id", "type")
    call.extra_json = _further(members, chat_pb2.ToolCall, "function")
    return call


def _tool(text: bytes) -> chat_pb2.Tool:
    members, value = _members(text), json.loads(text)
    function = _members(members["function"])
    tool = chat_pb2.Tool(parameters_json=function.get("parameters", b""))
    _set(tool, value, "type")
    _set(tool, value["function"], "name", "description", "strict")
    tool.extra_json = _further(members, chat_pb2.Tool, "function")
    return tool


def _set(message: Any, value: dict[str, Any], *names: str) -> None:
    for name in names:
        if name in value:
            setattr(message, name, value[name])


def _further(members: dict[str, bytes], kind: Any, *known: str) -> bytes:
    names = {*kind.DESCRIPTOR.fields_by_name, *known}
    further = {key: value for key, value in members.items() if key not in names}
    return _object(further) if further else b""


def _object(members: dict[str, bytes]) -> bytes:
    return b"{%s}" % b",".join(
        json.dumps(key).encode() + b":" + value for key, value in members.items()
    )


def _members(text: bytes) -> dict[str, bytes]:
    """Return the members of an object as they came."""
    return {k: bytes(v) for k, v in msgspec.json.decode(text, type=dict[str, msgspec.Raw]).items()}


def _items(text: bytes) -> list[bytes]:
    return [bytes(item) for item in msgspec.json.decode(text, type=list[msgspec.Raw])]


def answer_of(completion: chat_pb2.ChatCompletion) -> bytes:
    """Return a whole answer of one text as a core sends it."""
    return _dumps(
        {
            **_identity(completion, "chat.completion"),
            "choices": [
                {
                    "index": choice.index,
                    "message": {"role": choice.message.role, "content": choice.message.text},
                    "finish_reason": choice.finish_reason,
                    "logprobs": None,
                }
                for choice in completion.choices
            ],
            "usage": _usage(completion.usage),
        }
    )


def events_of(chunk: chat_pb2.ChatCompletionChunk, *, include_usage: bool) -> bytes:
    """Return the events of a step as a core sends them."""
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    head = _identity(chunk, "chat.completion.chunk")
    steps = []
    for choice in chunk.choices:
        fields = {field.name: value for field, value in choice.ListFields()}
        finish_reason = fields.pop("finish_reason", None)
        fields.pop("index", None)
        whole = {"index": 0, "delta": fields, "finish_reason": finish_reason, "logprobs": None}
        steps.append({**head, "choices": [whole], **usage})
    if include_usage and chunk.HasField("usage"):
        steps.append({**head, "choices": [], "usage": _usage(chunk.usage)})
    return b"".join(b"data: %s\n\n" % _dumps(step) for step in steps)


def _identity(message: Any, kind: str) -> dict[str, Any]:
    return {
        "id": message.id,
        "object": kind,
        "created": message.create_time.seconds,
        "model": message.model,
        "provider": message.provider or None,
        "container": message.container or None,
    }


def _usage(usage: chat_pb2.Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
