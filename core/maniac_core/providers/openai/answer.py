"""Whole answers on OpenAI's wire, and their finish reasons.

A message keeps its unknown keys (audio, annotations, images, …); keys that hold null or an empty list go, except
`content`. `reasoning_content` becomes `reasoning`, the old `function_call` a tool call. What a message is known to
hold is checked before anything is passed on or stored; reasoning that is not text is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Choice, JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import error_of_json, stream_failure, unreadable_failure
from maniac_core.providers.openai.usage import usage_of
from maniac_core.providers.openai.wire import (
    WireCall,
    WireMessage,
    arguments_of,
    details_of,
    extras_of,
    id_of,
    new_call_id,
    text_of,
)
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    check_calls,
    convert,
    decode,
    is_other_than_object,
    malformed,
    malformed_failure,
)

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
    model: Any = None
    service_tier: Any = None
    error: Any = None


class _WireBill(msgspec.Struct):
    """The usage and cost in an answer, whatever else it holds."""

    usage: msgspec.Raw = msgspec.Raw(b"null")
    service_tier: Any = None


# Not strict: some send numbers as text.
_DECODER = msgspec.json.Decoder(_WireAnswer, strict=False)
_BILL = msgspec.json.Decoder(_WireBill)
# A message's keys that are read and not passed on as they came.
_READ = frozenset(
    {"role", "content", "tool_calls", "function_call", "reasoning", "reasoning_content"}
    | {"reasoning_details"}
)
_READ_OF_CALL = ("id", "type", "function", "index")
_LARGEST_INDEX = 2**31 - 1
MAX_CHOICES = 128
"""Of an answer, and of one chunk: OpenAI's own limit of `n`."""


def decode_answer(body: bytes) -> Answer:
    """Decode a whole answer.

    Raises:
        UpstreamFailure: the body is not an answer, holds an error, or says that it was broken off. It carries the usage
            that stands beside it.
    """
    try:
        wire = decode(_DECODER, body)
    except msgspec.ValidationError as err:
        if is_other_than_object(err):
            raise error_of_json(body) or unreadable_failure(body) from None
        raise error_of_json(body) or _billed(malformed_failure(err), body) from None
    except NOT_JSON:
        raise unreadable_failure(body) from None
    if wire.error:
        raise _billed(stream_failure(wire.error), body)
    if not wire.choices:
        raise error_of_json(body) or unreadable_failure(body)
    if len(wire.choices) > MAX_CHOICES:
        raise _billed(malformed("choices", f"holds more than {MAX_CHOICES}"), body)
    try:
        choices = [_choice(choice, position) for position, choice in enumerate(wire.choices)]
    except UpstreamFailure as failure:
        raise _billed(failure, body) from None
    return Answer(
        choices=choices,
        usage=usage_of(wire.usage, wire.service_tier),
        upstream_model=wire.model if isinstance(wire.model, str) and wire.model else None,
    )


def _billed(failure: UpstreamFailure, body: bytes) -> UpstreamFailure:
    """Add what the provider counted to the failure of its answer: it may be charged all the same."""
    try:
        bill = decode(_BILL, body)
    except NOT_JSON:
        return failure
    failure.usage = usage_of(bill.usage, bill.service_tier)
    failure.may_be_billed |= failure.usage is not None
    return failure


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


def _choice(wire: _WireChoice, position: int) -> Choice:
    if wire.error:
        raise stream_failure(wire.error)
    finish_reason = finish_of(wire.finish_reason)
    message = _message(wire.message or {}, f"choices[{position}].message")
    index = wire.index
    if index is None or not 0 <= index <= _LARGEST_INDEX:
        index = position
    return Choice(
        index=index,
        message=message,
        finish_reason=finish_reason or ("tool_calls" if "tool_calls" in message else "stop"),
    )


def _message(given: JsonObject, where: str) -> JsonObject:
    given_calls = given.get("tool_calls")
    if isinstance(given_calls, list):
        check_calls(len(given_calls), f"{where}.tool_calls")
    wire = convert(given, WireMessage, where)
    content, thought = text_of(wire.content)
    message: JsonObject = {"role": "assistant", "content": content}
    for reasoning in (wire.reasoning, wire.reasoning_content, thought):
        if isinstance(reasoning, str) and reasoning:
            message["reasoning"] = reasoning
            break
    details = details_of(wire.reasoning_details, f"{where}.reasoning_details")
    if details is not None:
        message["reasoning_details"] = details
    if wire.tool_calls:
        raw = given["tool_calls"]
    elif wire.function_call is not None:
        wire.tool_calls, raw = [WireCall(function=wire.function_call)], [{}]
    else:
        wire.tool_calls, raw = [], []
    calls = [
        _tool_call(call, raw[position], f"{where}.tool_calls[{position}]")
        for position, call in enumerate(wire.tool_calls)
        if call.function is not None
    ]
    if calls:
        message["tool_calls"] = calls
    if not given.keys() <= _READ:
        message |= extras_of(given, _READ, where)
    return message


def _tool_call(wire: WireCall, given: JsonObject, where: str) -> JsonObject:
    function = wire.function
    assert function is not None, "calls of other kinds were left out"
    arguments = arguments_of(function.arguments)
    return {
        "id": id_of(wire.id) or new_call_id(),
        "type": "function",
        "function": {
            "name": function.name or "",
            "arguments": arguments if arguments.strip() else "{}",
        },
        **extras_of(given, _READ_OF_CALL, where),
    }
