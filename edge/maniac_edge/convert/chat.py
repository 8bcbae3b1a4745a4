"""A chat request: from JSON to the contract's message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2

from maniac_edge.convert.chat_limits import ChatLimits
from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import (
    as_object,
    check_json,
    decode_request,
    json_array,
    json_object,
    validation_error,
)
from maniac_edge.schemas import chat
from maniac_edge.schemas.common import FieldError

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(chat.ChatCompletionRequest)
_as_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_Extras = list[dict[str, msgspec.Raw]] | None


def _keys(shape: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape))


_REQUEST_KEYS = _keys(chat.ChatCompletionRequest)
_MESSAGE_KEYS = _keys(chat.Message)
# Audio is not a field of the contract: it travels with the part's further keys, for the core to drop.
_PART_KEYS = _keys(chat.ContentPart) - {"input_audio"}
_CALL_KEYS = _keys(chat.ToolCall)
_TOOL_KEYS = _keys(chat.Tool)
_REASONING_KEYS = _keys(chat.Reasoning)
_PART_TYPES = ("text", "image_url", "file", "input_audio")
_SCALARS = (
    "model",
    "frequency_penalty",
    "presence_penalty",
    "temperature",
    "top_p",
    "logprobs",
    "parallel_tool_calls",
    "store",
)
_INTEGERS = ("top_logprobs", "max_tokens", "max_completion_tokens", "seed", "n")
_DEFAULT_LIMITS = ChatLimits()
_INT64_MAX = 2**63 - 1


def parse_request(
    body: bytes, *, strict: bool = False, limits: ChatLimits = _DEFAULT_LIMITS
) -> tuple[chat_pb2.ChatCompletionParams, bool]:
    """Return the message for a request body, and whether a stream is asked for.

    Keys that are not declared are kept verbatim, at the top level and in messages, parts, tool calls, tools and
    `reasoning`; with `strict` those of the top level are refused.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field; VALIDATION_ERROR for
            unknown keys if `strict`.
    """
    raw = check_json(body)
    request = decode_request(body, _decoder)
    limits.check(request, len(body))
    extra = {key: value for key, value in raw.items() if key not in _REQUEST_KEYS}
    if extra and strict:
        raise validation_error(
            [
                FieldError(
                    loc=["body", key],
                    msg="Extra inputs are not permitted.",
                    type="extra_forbidden",
                )
                for key in extra
            ]
        )
    if not request.messages:
        raise EdgeError("INVALID_VALUE", "messages must not be empty.", param="messages")
    if request.model is None and not request.models:
        raise _missing("model")
    params = _params(request)
    if request.stream_options is not None:
        params.stream_options_json = bytes(raw["stream_options"])
    params.messages.extend(_messages(request.messages, raw["messages"]))
    if request.tools:
        params.tools.extend(_tools(request.tools, raw["tools"]))
    if request.reasoning is not None:
        _set_reasoning(params.reasoning, request.reasoning, raw["reasoning"])
    if extra:
        params.extra_json = _encode(extra)
    return params, bool(request.stream)


def _params(request: chat.ChatCompletionRequest) -> chat_pb2.ChatCompletionParams:
    fields: dict[str, Any] = {}
    for name in _SCALARS:
        value = getattr(request, name)
        if value is not None:
            fields[name] = value
    for name in _INTEGERS:
        value = getattr(request, name)
        if value is not None:
            fields[name] = _integer(value, name)
    if fields.get("n", 1) < 1:
        raise EdgeError("INVALID_VALUE", "n must be 1.", param="n")
    params = chat_pb2.ChatCompletionParams(**fields)
    if request.models:
        params.models.extend(request.models)
    if request.tags:
        params.tags.extend(request.tags)
    if request.logit_bias:
        params.logit_bias.update(request.logit_bias)
    if request.stop is not None:
        is_scalar = isinstance(request.stop, str)
        sequences = [request.stop] if isinstance(request.stop, str) else request.stop
        params.stop.CopyFrom(chat_pb2.StopSequences(sequences=sequences, is_scalar=is_scalar))
    if request.stream_options is not None and request.stream_options.include_usage is not None:
        params.include_usage = request.stream_options.include_usage
    if request.metadata:
        params.metadata_json = json_object(request.metadata, "metadata")
    if request.response_format is not None:
        params.response_format.CopyFrom(_response_format(request.response_format))
    if request.tool_choice is not None:
        params.tool_choice.CopyFrom(_tool_choice(request.tool_choice))
    if request.trace is not None:
        params.trace.CopyFrom(_trace(request.trace))
    return params


def _integer(value: float, param: str) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise EdgeError("INVALID_VALUE", f"{param} must be a whole number.", param=param)
        value = int(value)
    if not -_INT64_MAX <= value <= _INT64_MAX:
        raise EdgeError("INVALID_VALUE", f"{param} is out of range.", param=param)
    return value


def _messages(messages: list[chat.Message], raw: msgspec.Raw) -> Iterable[chat_pb2.ChatMessage]:
    for i, (message, given) in enumerate(zip(messages, _as_objects(raw), strict=True)):
        where = f"messages[{i}]"
        result = chat_pb2.ChatMessage(role=message.role)
        if isinstance(message.content, str):
            result.text = message.content
        elif message.content is not None:
            # Also when empty: an empty list is not null.
            result.parts.SetInParent()
            parts = _parts(message.content, given["content"], f"{where}.content")
            result.parts.parts.extend(parts)
        if message.tool_calls:
            result.tool_calls.extend(_tool_calls(message.tool_calls, given["tool_calls"]))
        for name in ("name", "tool_call_id", "reasoning", "refusal"):
            value = getattr(message, name)
            if value is not None:
                setattr(result, name, value)
        if message.reasoning_details:
            result.reasoning_details_json = json_array(
                message.reasoning_details, f"{where}.reasoning_details"
            )
        result.extra_json = _extra(given, _MESSAGE_KEYS)
        yield result


def _parts(
    parts: list[chat.ContentPart], raw: msgspec.Raw, where: str
) -> Iterable[chat_pb2.ContentPart]:
    for i, (part, given) in enumerate(zip(parts, _as_objects(raw), strict=True)):
        kind = part.type or next((name for name in _PART_TYPES if name in given), None)
        if kind is None:
            raise _missing(f"{where}[{i}].type")
        if kind not in _PART_TYPES:
            raise EdgeError(
                "INVALID_VALUE",
                f"Content parts of type {kind!r} are not supported; known: {', '.join(_PART_TYPES)}.",
                param=f"{where}[{i}].type",
            )
        if kind != "input_audio" and getattr(part, kind) is None:
            raise _missing(f"{where}[{i}].{kind}")
        result = chat_pb2.ContentPart(type=kind, extra_json=_extra(given, _PART_KEYS))
        if part.text is not None:
            result.text = part.text
        if part.image_url is not None:
            result.image_url.url = part.image_url.url
            if part.image_url.detail is not None:
                result.image_url.detail = part.image_url.detail
        if part.file is not None:
            result.file.SetInParent()
            for name in ("file_data", "file_id", "filename"):
                value = getattr(part.file, name)
                if value is not None:
                    setattr(result.file, name, value)
        yield result


def _tool_calls(calls: list[chat.ToolCall], raw: msgspec.Raw) -> Iterable[chat_pb2.ToolCall]:
    for call, given in zip(calls, _as_objects(raw), strict=True):
        yield chat_pb2.ToolCall(
            id=call.id,
            type="function",
            name=call.function.name,
            arguments=call.function.arguments,
            extra_json=_extra(given, _CALL_KEYS),
        )


def _tools(tools: list[chat.Tool], raw: msgspec.Raw) -> Iterable[chat_pb2.Tool]:
    for i, (tool, given) in enumerate(zip(tools, _as_objects(raw), strict=True)):
        function = tool.function
        result = chat_pb2.Tool(
            type="function",
            name=function.name,
            parameters_json=json_object(function.parameters, f"tools[{i}].function.parameters"),
            extra_json=_extra(given, _TOOL_KEYS),
        )
        if function.description is not None:
            result.description = function.description
        if function.strict is not None:
            result.strict = function.strict
        yield result


def _set_reasoning(result: chat_pb2.Reasoning, reasoning: chat.Reasoning, raw: msgspec.Raw) -> None:
    result.SetInParent()
    if reasoning.effort is not None:
        result.effort = reasoning.effort
    if reasoning.summary is not None:
        result.summary = reasoning.summary
    result.extra_json = _extra(as_object(raw), _REASONING_KEYS)


def _response_format(given: chat.ResponseFormat) -> chat_pb2.ResponseFormat:
    result = chat_pb2.ResponseFormat(type=given.type)
    if given.type != "json_schema":
        return result
    where = "response_format.json_schema"
    schema = given.json_schema
    if schema is None:
        raise _missing(where)
    result.json_schema.name = schema.name
    result.json_schema.schema_json = json_object(schema.schema, f"{where}.schema")
    if schema.description is not None:
        result.json_schema.description = schema.description
    if schema.strict is not None:
        result.json_schema.strict = schema.strict
    return result


def _tool_choice(given: str | chat.ToolChoice) -> chat_pb2.ToolChoice:
    if isinstance(given, str):
        return chat_pb2.ToolChoice(mode=given)
    kind = given.type or ("allowed_tools" if given.function is None else "function")
    if kind == "function":
        if given.function is None:
            raise _missing("tool_choice.function")
        return chat_pb2.ToolChoice(function_name=given.function.name)
    where = "tool_choice.allowed_tools"
    allowed = given.allowed_tools
    if allowed is None:
        raise _missing("tool_choice.function" if given.type is None else where)
    if not allowed.tools:
        raise EdgeError(
            "INVALID_VALUE", f"{where}.tools must name at least one tool.", param=f"{where}.tools"
        )
    names = [tool.function.name for tool in allowed.tools]
    return chat_pb2.ToolChoice(
        allowed_tools=chat_pb2.AllowedTools(mode=allowed.mode, function_names=names)
    )


def _trace(given: chat.TraceContext) -> chat_pb2.TraceContext:
    result = chat_pb2.TraceContext(
        id=given.id, metadata_json=json_object(given.metadata, "trace.metadata")
    )
    for name in ("span_id", "parent_span_id", "name", "source"):
        value = getattr(given, name)
        if value is not None:
            setattr(result, name, value)
    return result


def _extra(given: dict[str, msgspec.Raw], known: frozenset[str]) -> bytes:
    if given.keys() <= known:
        return b""
    return _encode({key: value for key, value in given.items() if key not in known})


def _missing(param: str) -> EdgeError:
    return EdgeError("MISSING_REQUIRED_PARAMETER", f"{param} is required.", param=param)
