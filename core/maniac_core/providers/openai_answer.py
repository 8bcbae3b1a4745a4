"""Whole answers on OpenAI's wire, and what chunks share with them: finish reasons, text, tool calls.

A message keeps its unknown keys (audio, annotations, images, …); keys that hold null or an empty list go, except
`content`. `reasoning_content` becomes `reasoning`, the old `function_call` a tool call.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Choice, JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import NOT_JSON, stream_failure, unreadable_failure
from maniac_core.providers.openai_usage import usage_of

_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
}
# Given instead of an error for an answer that the server broke off: DeepSeek, vLLM, Zhipu, OpenRouter.
_BROKEN = frozenset({"insufficient_system_resource", "abort", "network_error", "error"})


class _WireChoice(msgspec.Struct):
    index: int | None = None
    message: JsonObject | None = None
    finish_reason: str | None = None
    error: Any = None


class _WireAnswer(msgspec.Struct):
    choices: list[_WireChoice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    model: str | None = None
    service_tier: str | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_WireAnswer, strict=False)


def decode_answer(body: bytes) -> Answer:
    """Decode a whole answer.

    Raises:
        UpstreamFailure: the body is no answer, holds an error, or says that it was broken off.
    """
    try:
        wire = _DECODER.decode(body)
    except NOT_JSON:
        raise unreadable_failure(body) from None
    if wire.error:
        raise stream_failure(wire.error)
    if not wire.choices:
        raise error_of_object(body) or unreadable_failure(body)
    return Answer(
        choices=[_choice(choice, position) for position, choice in enumerate(wire.choices)],
        usage=usage_of(wire.usage, wire.service_tier),
        upstream_model=wire.model or None,
    )


def finish_of(reason: str | None) -> str | None:
    """Return the finish reason in the closed set of the API; None for none, and for an empty one.

    Raises:
        UpstreamFailure: the reason says that the server broke the answer off.
    """
    if not reason:
        return None
    known = _FINISH.get(reason)
    if known is not None:
        return known
    lowered = reason.lower()
    if lowered in _BROKEN:
        raise UpstreamFailure(
            Reason.ERROR_REASON_UPSTREAM_OVERLOADED
            if lowered == "insufficient_system_resource"
            else Reason.ERROR_REASON_UPSTREAM_ERROR,
            f"The provider broke its answer off ({lowered}).",
            retry=True,
            fall_back=True,
            http_status=200,
        )
    return _FINISH.get(lowered, "stop")


def error_of_object(body: bytes) -> UpstreamFailure | None:
    """Return the failure that a JSON object without choices stands for; None when it is no error."""
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON:
        return None
    if not isinstance(value, dict):
        return None
    if value.get("error"):
        return stream_failure(value["error"])
    # Older vLLM puts the error's own keys at the top, FastAPI servers `detail`.
    if value.get("object") == "error" or value.get("type") == "error" or value.get("detail"):
        return stream_failure(value)
    return None


def text_of(content: Any) -> tuple[str | None, str | None]:
    """Return the text and the reasoning of a content value; Mistral sends both as a list of parts."""
    if content is None or isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        return None, None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") == "thinking":
            thought = text_of(part.get("thinking"))[0]
            if thought:
                thoughts.append(thought)
    return "".join(texts) if texts else None, "".join(thoughts) if thoughts else None


def arguments_of(value: Any) -> str:
    """Return tool arguments as JSON text; some servers send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def new_call_id() -> str:
    """Return an id for a tool call that came without one; unique, since clients match results by it."""
    return "call_" + os.urandom(12).hex()


def _choice(wire: _WireChoice, position: int) -> Choice:
    if wire.error:
        raise stream_failure(wire.error)
    finish_reason = finish_of(wire.finish_reason)
    message = _message(wire.message or {})
    return Choice(
        index=position if wire.index is None else wire.index,
        message=message,
        finish_reason=finish_reason or ("tool_calls" if "tool_calls" in message else "stop"),
    )


def _message(wire: JsonObject) -> JsonObject:
    content, thought = text_of(wire.pop("content", None))
    reasoning = wire.pop("reasoning", None) or wire.pop("reasoning_content", None) or thought
    wire.pop("reasoning_content", None)
    calls = _tool_calls(wire.pop("tool_calls", None))
    function_call = wire.pop("function_call", None)
    if not calls and isinstance(function_call, dict):
        calls = _tool_calls([{"function": function_call}])
    wire.pop("role", None)
    message: JsonObject = {"role": "assistant", "content": content}
    if isinstance(reasoning, str) and reasoning:
        message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = calls
    for key, value in wire.items():
        if value is not None and value != []:
            message[key] = value
    return message


def _tool_calls(wire: Any) -> list[JsonObject]:
    calls: list[JsonObject] = []
    for call in wire if isinstance(wire, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = arguments_of(function.get("arguments"))
        kept = {
            key: value
            for key, value in call.items()
            if key not in ("id", "type", "function", "index") and value is not None
        }
        calls.append(
            {
                "id": call.get("id") or new_call_id(),
                "type": "function",
                "function": {
                    "name": function.get("name") or "",
                    "arguments": arguments if arguments.strip() else "{}",
                },
                **kept,
            }
        )
    return calls
