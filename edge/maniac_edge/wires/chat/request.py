"""A chat request: from the JSON of a client to the one form in which it goes to the core.

That form is JSON in which nothing is null or empty that means "not given", values have their types, and keys the order of
`schemas.chat`, so that the core makes its own values of it in one go. Keys that are not declared come last, and their
values are as the client wrote them.
"""

from __future__ import annotations

from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from maniac_gateway.v1 import relay_pb2
from msgspec import UNSET, UnsetType

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
from maniac_edge.wires.chat.limits import ChatLimits

_Members = dict[str, msgspec.Raw]
_INTEGERS = ("top_logprobs", "max_tokens", "max_completion_tokens", "seed", "n")
_EMPTY_IS_ABSENT = ("models", "logit_bias", "tools", "tags")
_PART_VALUES = ("text", "image_url", "file")
_PART_TYPES = (*_PART_VALUES, "input_audio")
_DEFAULT_LIMITS = ChatLimits()
_INT64_MAX = 2**63 - 1
# Beyond it not every whole number is one of its own.
_EXACT = 2**53


def _closed(shape: Any) -> Any:
    """Return a type of the schema such that a key that is not declared is an error of the decoder."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        fields = [
            (field.name, _closed(field.type), _default(field))
            for field in msgspec.structs.fields(shape)
        ]
        return msgspec.defstruct(
            shape.__name__, fields, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
        )
    origin, args = get_origin(shape), get_args(shape)
    if origin is Annotated:
        return Annotated[(_closed(args[0]), *args[1:])]
    if origin is list:
        return list[_closed(args[0])]  # type: ignore[misc]
    if type(None) in args or UnsetType in args:
        return Union[tuple(_closed(arg) for arg in args)]  # noqa: UP007 - of a tuple
    return shape


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return msgspec.field() if field.required else msgspec.field(default=field.default)


def _keys(shape: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape))


_encode = msgspec.json.Encoder().encode
_decode_closed = msgspec.json.Decoder(_closed(chat.ChatCompletionRequest)).decode
_decoder = msgspec.json.Decoder(chat.ChatCompletionRequest)
_as_objects = msgspec.json.Decoder(list[_Members]).decode
_REQUEST_KEYS = _keys(chat.ChatCompletionRequest)
_MESSAGE_KEYS = _keys(chat.Message)
_PART_KEYS = _keys(chat.ContentPart)
_CALL_KEYS = _keys(chat.ToolCall)
_TOOL_KEYS = _keys(chat.Tool)
_REASONING_KEYS = _keys(chat.Reasoning)


def parse_request(
    body: bytes, *, strict: bool = False, limits: ChatLimits = _DEFAULT_LIMITS
) -> relay_pb2.RelayStart:
    """Return what goes to the core for a request body.

    Keys that are not declared are kept verbatim, at the top level and in messages, parts, tool calls, tools and
    `reasoning`; with `strict` those of the top level are refused.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field; VALIDATION_ERROR for
            unknown keys if `strict`.
    """
    raw: _Members | None = None
    request: chat.ChatCompletionRequest
    try:
        # Values that no decoder looks into are passed on verbatim, so UTF-8 is checked over the whole.
        if not body.isascii():
            body.decode()
        request = _decode_closed(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Either not a request, or one with further keys.
        raw = check_json(body)
        request = decode_request(body, _decoder)
    limits.check(request, len(body))
    unknown = {} if raw is None else _further(raw, _REQUEST_KEYS)
    if unknown and strict:
        raise _not_permitted(unknown)
    if not request.messages:
        raise EdgeError("INVALID_VALUE", "messages must not be empty.", param="messages")
    if request.model is None and not request.models:
        raise _missing("model")
    is_stream = bool(request.stream)
    request.stream = None
    _normalise(request)
    if request.stream_options is not None:
        # Kept with the record as they came.
        request.stream_options = (raw or as_object(body))["stream_options"]  # type: ignore[assignment]
    for i, message in enumerate(request.messages):
        if message.content.__class__ is not str or message.tool_calls is not None:
            _normalise_message(message, f"messages[{i}]")
        if message.reasoning_details is not UNSET:
            where = f"messages[{i}].reasoning_details"
            if not json_array(message.reasoning_details, where):
                message.reasoning_details = UNSET
    for i, tool in enumerate(request.tools or ()):
        where = f"tools[{i}].function.parameters"
        tool.function.parameters = _object(tool.function.parameters, where)
        tool.type = "function"
    has_inner = raw is not None and _keep_unknown(request, raw)
    text = _joined(_encode(request), unknown)
    return relay_pb2.RelayStart(
        stream=is_stream,
        wire=relay_pb2.RELAY_WIRE_CHAT,
        body=text,
        has_unknown_keys=bool(unknown),
        has_unknown_inner_keys=has_inner,
    )


def _normalise(request: chat.ChatCompletionRequest) -> None:
    for name in _INTEGERS:
        value = getattr(request, name)
        if value is not None:
            setattr(request, name, _integer(value, name))
    if request.n is not None and request.n < 1:
        raise EdgeError("INVALID_VALUE", "n must be 1.", param="n")
    for name in _EMPTY_IS_ABSENT:
        if not getattr(request, name):
            setattr(request, name, None)
    if request.logit_bias is not None:
        request.logit_bias = {
            key: int(bias) if bias.is_integer() and abs(bias) < _EXACT else bias
            for key, bias in request.logit_bias.items()
        }
    if request.metadata is not UNSET:
        request.metadata = _object(request.metadata, "metadata")
    if request.response_format is not None:
        _normalise_format(request.response_format)
    if request.tool_choice is not None and not isinstance(request.tool_choice, str):
        request.tool_choice = _tool_choice(request.tool_choice)
    if request.trace is not None:
        request.trace.metadata = _object(request.trace.metadata, "trace.metadata")


def _integer(value: float, param: str) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise EdgeError("INVALID_VALUE", f"{param} must be a whole number.", param=param)
        value = int(value)
    if not -_INT64_MAX <= value <= _INT64_MAX:
        raise EdgeError("INVALID_VALUE", f"{param} is out of range.", param=param)
    return value


def _normalise_message(message: chat.Message, where: str) -> None:
    if message.content is UNSET:
        message.content = None
    elif message.content.__class__ is list:
        for j, part in enumerate(message.content):
            _normalise_part(part, f"{where}.content[{j}]")
    if not message.tool_calls:
        message.tool_calls = None
    else:
        for call in message.tool_calls:
            call.type = "function"


def _normalise_part(part: chat.ContentPart, where: str) -> None:
    kind = part.type or next(
        (name for name in _PART_TYPES if getattr(part, name) is not UNSET), None
    )
    if kind is None:
        raise _missing(f"{where}.type")
    if kind not in _PART_TYPES:
        raise EdgeError(
            "INVALID_VALUE",
            f"Content parts of type {kind!r} are not supported; known: {', '.join(_PART_TYPES)}.",
            param=f"{where}.type",
        )
    for name in _PART_VALUES:
        if getattr(part, name) is None:
            setattr(part, name, UNSET)
    if kind != "input_audio" and getattr(part, kind) is UNSET:
        raise _missing(f"{where}.{kind}")
    part.type = kind


def _normalise_format(given: chat.ResponseFormat) -> None:
    if given.type != "json_schema":
        given.json_schema = None
        return
    where = "response_format.json_schema"
    if given.json_schema is None:
        raise _missing(where)
    given.json_schema.schema = _object(given.json_schema.schema, f"{where}.schema")


def _tool_choice(given: chat.ToolChoice) -> Any:
    kind = given.type or ("allowed_tools" if given.function is None else "function")
    if kind == "function":
        if given.function is None:
            raise _missing("tool_choice.function")
        return _named(given.function)
    where = "tool_choice.allowed_tools"
    allowed = given.allowed_tools
    if allowed is None:
        raise _missing("tool_choice.function" if given.type is None else where)
    if not allowed.tools:
        raise EdgeError(
            "INVALID_VALUE", f"{where}.tools must name at least one tool.", param=f"{where}.tools"
        )
    tools = [_named(tool.function) for tool in allowed.tools]
    return {"type": "allowed_tools", "allowed_tools": {"mode": allowed.mode, "tools": tools}}


def _named(function: chat.NamedFunction) -> dict[str, Any]:
    return {"type": "function", "function": {"name": function.name}}


def _object(value: msgspec.Raw | UnsetType | None, param: str) -> msgspec.Raw | UnsetType:
    return value if json_object(value, param) else UNSET  # type: ignore[return-value]


def _keep_unknown(request: chat.ChatCompletionRequest, raw: _Members) -> bool:
    """Add the keys that are not declared to the parts that have any; return whether there was one.

    What gets some becomes its text, which is to be encoded as it is.
    """
    found = False
    messages: list[Any] = request.messages
    for i, (message, given) in enumerate(zip(messages, _as_objects(raw["messages"]), strict=True)):
        if message.content.__class__ is list:
            found |= _add(message.content, _as_objects(given["content"]), _PART_KEYS)
        if message.tool_calls is not None:
            found |= _add(message.tool_calls, _as_objects(given["tool_calls"]), _CALL_KEYS)
        if unknown := _further(given, _MESSAGE_KEYS):
            found = True
            messages[i] = msgspec.Raw(_joined(_encode(message), unknown))
    if request.tools is not None:
        found |= _add(request.tools, _as_objects(raw["tools"]), _TOOL_KEYS)
    if request.reasoning is not None:
        # Read by dialects as a whole; here the declared ones come last.
        unknown = _further(as_object(raw["reasoning"]), _REASONING_KEYS)
        known = as_object(_encode(request.reasoning))
        request.reasoning = {**unknown, **known}  # type: ignore[assignment]
    return found


def _add(items: list[Any], given: list[_Members], known: frozenset[str]) -> bool:
    found = False
    for i, members in enumerate(given):
        if unknown := _further(members, known):
            found = True
            items[i] = msgspec.Raw(_joined(_encode(items[i]), unknown))
    return found


def _further(members: _Members, known: frozenset[str]) -> _Members:
    if members.keys() <= known:
        return {}
    return {key: value for key, value in members.items() if key not in known}


def _joined(text: bytes, members: _Members) -> bytes:
    """Return the text of an object that is not empty, with further members."""
    return b"%b,%b" % (text[:-1], _encode(members)[1:]) if members else text


def _not_permitted(unknown: _Members) -> EdgeError:
    message = "Extra inputs are not permitted."
    return validation_error(
        [FieldError(loc=["body", key], msg=message, type="extra_forbidden") for key in unknown]
    )


def _missing(param: str) -> EdgeError:
    return EdgeError("MISSING_REQUIRED_PARAMETER", f"{param} is required.", param=param)
