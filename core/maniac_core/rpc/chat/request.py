"""Conversion of chat requests: from the contract's messages to the domain's values."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.chat import ChatRequest, JsonObject, Trace
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.chat.checks import check_request, check_sizes
from maniac_core.rpc.chat.embedded_json import decoded_object, raw_object, too_deep

# Beyond it not every whole number is one of its own.
_EXACT = 2**53
_any_list = msgspec.json.Decoder(list[dict[str, Any]]).decode

# Parameters whose JSON form is their value in the message.
_PLAIN = frozenset(
    {
        "frequency_penalty",
        "presence_penalty",
        "temperature",
        "top_p",
        "logprobs",
        "top_logprobs",
        "max_tokens",
        "max_completion_tokens",
        "seed",
        "parallel_tool_calls",
        "n",
    }
)
_PLAIN_OF_MESSAGE = frozenset({"tool_call_id", "name", "refusal", "reasoning"})
# Keys of the JSON form that have a field in the message.
_REQUEST_KEYS = frozenset(chat_pb2.ChatCompletionParams.DESCRIPTOR.fields_by_name) | {"metadata"}
_MESSAGE_KEYS = frozenset(chat_pb2.ChatMessage.DESCRIPTOR.fields_by_name) | {
    "content",
    "reasoning_details",
}
_PART_KEYS = frozenset({"type", "text", "image_url", "file"})
_CALL_KEYS = frozenset({"id", "type", "function"})
_TOOL_KEYS = frozenset({"type", "function"})


def request_from_proto(params: chat_pb2.ChatCompletionParams) -> ChatRequest:
    """Return the domain's form of a request.

    Raises:
        GatewayError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field; callers of the RPC are not
            obliged to have checked what the edge checks.
    """
    # Testing every possible field costs more than listing those that are set.
    given = {field.name: value for field, value in params.ListFields()}
    check_sizes(given)
    parameters: JsonObject = {}
    if "extra_json" in given:
        parameters.update(_extra(given["extra_json"], "extra_json", _REQUEST_KEYS))
    for name, value in given.items():
        if name in _PLAIN:
            parameters[name] = value
        elif name == "logit_bias":
            parameters[name] = {
                key: int(bias) if bias.is_integer() and abs(bias) < _EXACT else bias
                for key, bias in value.items()
            }
        elif name == "stop":
            sequences = list(value.sequences)
            parameters[name] = sequences[0] if value.is_scalar and sequences else sequences
        elif name == "tools":
            parameters[name] = [_tool(tool, i) for i, tool in enumerate(value)]
        elif name == "tool_choice":
            parameters[name] = _tool_choice(value)
        elif name == "response_format":
            parameters[name] = _response_format(value)
        elif name == "reasoning":
            parameters[name] = _reasoning(value)
    request = ChatRequest(
        messages=[_message(message, i) for i, message in enumerate(given["messages"])],
        model=given.get("model"),
        fallbacks=tuple(given.get("models", ())),
        parameters=parameters,
        include_usage=params.include_usage,
        stream_options=_raw_json(given.get("stream_options_json", b""), "stream_options_json"),
        tags=tuple(given.get("tags", ())),
        metadata=_raw_json(given.get("metadata_json", b""), "metadata_json"),
        store=given.get("store", True),
        trace=_trace(given["trace"]) if "trace" in given else None,
    )
    check_request(request)
    return request


def _extra(data: bytes, param: str, known: frozenset[str]) -> dict[str, msgspec.Raw]:
    """Return further keys; one that has a field of its own would pass its checks by."""
    extra = raw_object(data, param)
    if misplaced := known.intersection(extra):
        key = min(misplaced)
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE,
            f"{param} must not hold {key!r}, which has a field of its own.",
            param=param,
        )
    return extra


def _raw_json(data: bytes, param: str) -> msgspec.Raw | None:
    if not data:
        return None
    raw_object(data, param)
    return msgspec.Raw(data)


def _message(message: chat_pb2.ChatMessage, position: int) -> JsonObject:
    where = f"messages[{position}]"
    result: JsonObject = {"role": message.role, "content": None}
    for field, value in message.ListFields():
        name = field.name
        if name == "text":
            result["content"] = value
        elif name == "parts":
            result["content"] = [_part(part, where) for part in value.parts]
        elif name == "tool_calls":
            result["tool_calls"] = [_tool_call(call, where) for call in value]
        elif name in _PLAIN_OF_MESSAGE:
            result[name] = value
        elif name == "reasoning_details_json":
            result["reasoning_details"] = _details(value, where)
        elif name == "extra_json":
            result.update(_extra(value, f"{where}.extra_json", _MESSAGE_KEYS))
    return result


def _details(data: bytes, where: str) -> list[JsonObject]:
    try:
        return _any_list(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        param = f"{where}.reasoning_details"
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{param} must be an array of objects.", param=param
        ) from err
    except RecursionError:
        raise too_deep(f"{where}.reasoning_details") from None


def _part(part: chat_pb2.ContentPart, where: str) -> JsonObject:
    result: JsonObject = {"type": part.type}
    if part.HasField("text"):
        result["text"] = part.text
    if part.HasField("image_url"):
        image: JsonObject = {"url": part.image_url.url}
        if part.image_url.HasField("detail"):
            image["detail"] = part.image_url.detail
        result["image_url"] = image
    if part.HasField("file"):
        result["file"] = {field.name: value for field, value in part.file.ListFields()}
    if part.extra_json:
        result.update(_extra(part.extra_json, f"{where}.content", _PART_KEYS))
    return result


def _tool_call(call: chat_pb2.ToolCall, where: str) -> JsonObject:
    result: JsonObject = {
        "id": call.id,
        "type": call.type or "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.extra_json:
        param = f"{where}.tool_calls"
        _extra(call.extra_json, param, _CALL_KEYS)
        # Read by dialects (thought signatures), so it is decoded.
        result.update(decoded_object(call.extra_json, param))
    return result


def _tool(tool: chat_pb2.Tool, position: int) -> JsonObject:
    where = f"tools[{position}]"
    function: JsonObject = {"name": tool.name}
    if tool.HasField("description"):
        function["description"] = tool.description
    if tool.parameters_json:
        function["parameters"] = decoded_object(
            tool.parameters_json, f"{where}.function.parameters"
        )
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    result: JsonObject = {"type": tool.type or "function", "function": function}
    if tool.extra_json:
        result.update(_extra(tool.extra_json, where, _TOOL_KEYS))
    return result


def _tool_choice(choice: chat_pb2.ToolChoice) -> str | JsonObject:
    kind = choice.WhichOneof("choice")
    if kind == "function_name":
        return _named(choice.function_name)
    if kind == "allowed_tools":
        allowed = choice.allowed_tools
        tools = [_named(name) for name in allowed.function_names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": allowed.mode, "tools": tools}}
    return choice.mode


def _named(function_name: str) -> JsonObject:
    return {"type": "function", "function": {"name": function_name}}


def _response_format(value: chat_pb2.ResponseFormat) -> JsonObject:
    result: JsonObject = {"type": value.type}
    if value.HasField("json_schema"):
        schema: JsonObject = {"name": value.json_schema.name}
        if value.json_schema.HasField("description"):
            schema["description"] = value.json_schema.description
        if value.json_schema.schema_json:
            param = "response_format.json_schema.schema"
            schema["schema"] = decoded_object(value.json_schema.schema_json, param)
        if value.json_schema.HasField("strict"):
            schema["strict"] = value.json_schema.strict
        result["json_schema"] = schema
    return result


def _reasoning(value: chat_pb2.Reasoning) -> JsonObject:
    result: JsonObject = {}
    if value.extra_json:
        result.update(decoded_object(value.extra_json, "reasoning"))
    if value.HasField("effort"):
        result["effort"] = value.effort
    if value.HasField("summary"):
        result["summary"] = value.summary
    return result


def _trace(trace: chat_pb2.TraceContext) -> Trace:
    return Trace(
        id=trace.id,
        span_id=trace.span_id if trace.HasField("span_id") else None,
        parent_span_id=trace.parent_span_id if trace.HasField("parent_span_id") else None,
        name=trace.name if trace.HasField("name") else None,
        source=trace.source if trace.HasField("source") else None,
        metadata=_raw_json(trace.metadata_json, "trace.metadata"),
    )
