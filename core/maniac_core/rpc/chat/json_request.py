"""Conversion of chat requests: from the JSON that edges send to the domain's values.

An edge has checked the request and written it in one form (see `RelayStart.body`), so that one call of the decoder makes
the domain's values of it. The decoder checks types all the same: what does not have them is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Required, TypedDict

import msgspec
from msgspec import Meta

from maniac_core.domain.chat import ChatRequest, JsonObject, Trace
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.chat.checks import check_request, check_sizes
from maniac_core.rpc.chat.embedded_json import decoded_object, out_of_range, too_deep

_Int64 = Annotated[int, Meta(ge=-(2**63 - 1), le=2**63 - 1)]
_Raws = dict[str, msgspec.Raw]


class _ImageUrl(TypedDict, total=False):
    url: Required[str]
    detail: str


class _File(TypedDict, total=False):
    file_data: str
    file_id: str
    filename: str


class _Part(TypedDict, total=False):
    type: Required[str]
    text: str
    image_url: _ImageUrl
    file: _File
    input_audio: msgspec.Raw


class _CalledFunction(TypedDict):
    name: str
    arguments: str


class _ToolCall(TypedDict):
    id: str
    type: Literal["function"]
    function: _CalledFunction


class _Message(TypedDict, total=False):
    role: Required[str]
    content: Required[str | list[_Part] | None]
    name: str
    tool_calls: list[_ToolCall]
    tool_call_id: str
    reasoning: str
    reasoning_details: list[JsonObject]
    refusal: str


class _Function(TypedDict, total=False):
    name: Required[str]
    description: str
    parameters: JsonObject
    strict: bool


class _Tool(TypedDict):
    type: Literal["function"]
    function: _Function


class _NamedFunction(TypedDict):
    name: str


class _NamedTool(TypedDict):
    type: Literal["function"]
    function: _NamedFunction


class _AllowedTools(TypedDict):
    mode: str
    tools: list[_NamedTool]


class _ToolChoice(TypedDict, total=False):
    type: Required[Literal["function", "allowed_tools"]]
    function: _NamedFunction
    allowed_tools: _AllowedTools


class _JsonSchema(TypedDict, total=False):
    name: Required[str]
    description: str
    schema: JsonObject
    strict: bool


class _ResponseFormat(TypedDict, total=False):
    type: Required[str]
    json_schema: _JsonSchema


class _Trace(TypedDict, total=False):
    id: Required[str]
    span_id: str
    parent_span_id: str
    name: str
    source: str
    metadata: msgspec.Raw


class _Request(TypedDict, total=False):
    messages: Required[list[_Message]]
    model: str
    models: list[str]
    frequency_penalty: float
    presence_penalty: float
    temperature: float
    top_p: float
    logit_bias: dict[str, int | float]
    logprobs: bool
    top_logprobs: _Int64
    max_tokens: _Int64
    max_completion_tokens: _Int64
    reasoning: JsonObject
    response_format: _ResponseFormat
    seed: _Int64
    stop: str | list[str]
    tools: list[_Tool]
    tool_choice: str | _ToolChoice
    parallel_tool_calls: bool
    n: _Int64
    stream_options: msgspec.Raw
    tags: list[str]
    metadata: msgspec.Raw
    store: bool
    trace: _Trace


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Unread(msgspec.Struct):
    """The parts that may have keys of their own."""

    messages: list[_Raws]
    tools: list[_Raws] = []


_decode = msgspec.json.Decoder(_Request).decode
_options = msgspec.json.Decoder(_StreamOptions).decode
_members = msgspec.json.Decoder(_Raws).decode
_unread = msgspec.json.Decoder(_Unread).decode
_items = msgspec.json.Decoder(list[_Raws]).decode
_encode = msgspec.json.Encoder().encode
_REQUEST_KEYS = _Request.__required_keys__ | _Request.__optional_keys__
_MESSAGE_KEYS = _Message.__required_keys__ | _Message.__optional_keys__
_PART_KEYS = _Part.__required_keys__ | _Part.__optional_keys__
_CALL_KEYS = _ToolCall.__required_keys__
_TOOL_KEYS = _Tool.__required_keys__
_PATH = re.compile(r" - at `(?:key in `)?\$\.?([^`]*)`$")
_DETAILS = re.compile(r"messages\[\d+\]\.reasoning_details")


def request_from_json(
    body: bytes, *, has_unknown_keys: bool = False, has_unknown_inner_keys: bool = False
) -> ChatRequest:
    """Return the domain's form of a request; see `RelayStart` for the flags.

    Raises:
        GatewayError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    try:
        given: JsonObject = _decode(body)  # type: ignore[assignment]
        options = given.pop("stream_options", None)
        include_usage = options is not None and bool(_options(options).include_usage)
        check_sizes(given)
        if has_unknown_inner_keys:
            _add_inner_keys(given, body)
        if has_unknown_keys:
            # In front, as they are to dialects.
            given = {**_further(_members(body), _REQUEST_KEYS), **given}
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise _refusal(err) from err
    except RecursionError:
        raise too_deep("The request") from None
    trace = given.pop("trace", None)
    request = ChatRequest(
        messages=given.pop("messages"),
        model=given.pop("model", None),
        fallbacks=tuple(given.pop("models", ())),
        include_usage=include_usage,
        stream_options=options,
        tags=tuple(given.pop("tags", ())),
        metadata=_object(given.pop("metadata", None), "metadata"),
        store=given.pop("store", True),
        trace=None if trace is None else _trace(trace),
        parameters=given,
    )
    check_request(request)
    return request


def _add_inner_keys(given: JsonObject, body: bytes) -> None:
    """Add to messages and tools what the gateway does not know, its values as they came."""
    unread = _unread(body)
    for i, (message, raw) in enumerate(zip(given["messages"], unread.messages, strict=True)):
        content = message["content"]
        if content.__class__ is list:
            for part, raw_part in zip(content, _items(raw["content"]), strict=True):
                _add(part, raw_part, _PART_KEYS)
        for call, raw_call in zip(
            message.get("tool_calls", ()), _items(raw.get("tool_calls", b"[]")), strict=True
        ):
            if not raw_call.keys() <= _CALL_KEYS:
                # Read by dialects (thought signatures), so it is decoded.
                further = _encode(_further(raw_call, _CALL_KEYS))
                call.update(decoded_object(further, f"messages[{i}].tool_calls"))
        _add(message, raw, _MESSAGE_KEYS)
    for tool, raw in zip(given.get("tools", ()), unread.tools, strict=True):
        _add(tool, raw, _TOOL_KEYS)


def _add(known: JsonObject, raw: _Raws, keys: frozenset[str]) -> None:
    if not raw.keys() <= keys:
        known.update(_further(raw, keys))


def _further(raw: _Raws, keys: frozenset[str]) -> _Raws:
    return {key: value for key, value in raw.items() if key not in keys}


def _trace(given: JsonObject) -> Trace:
    _object(given.get("metadata"), "trace.metadata")
    return Trace(**given)


def _object(value: msgspec.Raw | None, param: str) -> msgspec.Raw | None:
    if value is not None and not bytes(value).startswith(b"{"):
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{param} must be a JSON object.", param=param
        )
    return value


def _refusal(error: Exception) -> GatewayError:
    """Return the error for JSON that has not the form of a request."""
    text = str(error)
    found = _PATH.search(text)
    where = found[1] if found is not None else ""
    if details := _DETAILS.match(where):
        param = details[0]
        return GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{param} must be an array of objects.", param=param
        )
    if where and not text.startswith("Number out of range"):
        return GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{where} does not have its type.", param=where
        )
    if where:
        return out_of_range(where)
    return GatewayError(
        Reason.ERROR_REASON_INVALID_VALUE, "The request is not the JSON of a chat request."
    )
