"""A request for a response: from the form of OpenAI's Responses to the one in which it goes to the core.

The core sends the client's own JSON to a provider that speaks Responses; what is made here is for all others, and for the
record. What others cannot express is left out and named; what must not be left out keeps them from being called.
"""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import relay_pb2

from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import check_json, decode_request, json_object
from maniac_edge.wires.responses.items import ItemReader
from maniac_edge.wires.responses.schema import (
    ResponseCreate,
    ResponseText,
    ResponseTool,
    ResponseToolChoice,
    ResponseToolFormat,
)

_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(ResponseCreate))
# What says nothing about the answer, so that nobody misses it elsewhere.
_SILENT = frozenset(
    {"stream_options", "client_metadata", "prompt_cache_key", "prompt_cache_retention", "user"}
    | {"prompt_cache_options", "safety_identifier", "service_tier", "truncation"}
    | {"max_tool_calls", "top_logprobs"}
)
# What only this API has. Keys that it does not have either may be a provider's own, and go on.
_OWN = frozenset(
    {"access_programs", "background_options", "context_management", "image", "moderation"}
)
# What is the conversation itself, or a part of it.
_REQUIRED = ("conversation", "prompt")
_KEPT_BACK = _KNOWN | _SILENT | _OWN | frozenset(_REQUIRED)
_decoder = msgspec.json.Decoder(ResponseCreate)
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_Members = dict[str, Any]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, with what its answer has to know of it."""

    start: relay_pb2.RelayStart
    raw: dict[str, msgspec.Raw]
    """The request as it came, for what the answer repeats."""
    custom: frozenset[str]
    """Names of the tools that take text and not JSON."""
    namespaces: dict[str, tuple[str, str]]
    """Namespace and name of the tools that have one, by the name that the model sees."""
    wants_seals: bool
    """Whether the client carries reasoning from one request to the next."""
    wants_summary: bool
    """Whether reasoning is wanted as a summary."""


def parse_request(body: bytes) -> Asked:
    """Return what goes to the core for a request body.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    raw = check_json(body)
    request = decode_request(body, _decoder)
    if request.model is None and not request.models:
        raise _missing("model")
    reader = _Reader()
    reader.only += [name for name in raw if name in _OWN and _is_given(raw, name)]
    reader.required = next((name for name in _REQUIRED if _is_given(raw, name)), "")
    chat = reader.read(request)
    further = {name: raw[name] for name in raw if name not in _KEPT_BACK and _is_given(raw, name)}
    if request.text is not None and request.text.verbosity is not None:
        further["verbosity"] = msgspec.Raw(_encode(request.text.verbosity))
    start = relay_pb2.RelayStart(
        stream=bool(request.stream),
        wire=relay_pb2.RELAY_WIRE_RESPONSES,
        body=_encode({**further, **chat}),
        has_unknown_keys=bool(further),
        has_unknown_inner_keys=reader.items.has_inner,
        native=_native(body, raw, reader.items.summaries),
        native_only=[*reader.only, *reader.items.only],
        native_required=reader.required or reader.items.required,
    )
    if request.previous_response_id is not None or request.background:
        start.response.previous_response_id = request.previous_response_id or ""
        start.response.background = bool(request.background)
    return Asked(
        start=start,
        raw=raw,
        custom=frozenset(reader.custom),
        namespaces=reader.namespaces,
        wants_seals="reasoning.encrypted_content" in (request.include or ()),
        wants_summary=request.reasoning is not None and request.reasoning.summary is not None,
    )


def _native(body: bytes, raw: dict[str, msgspec.Raw], summaries: dict[int, str]) -> bytes:
    """Return the body for a provider that speaks this API, which cannot read what the gateway has compacted."""
    if not summaries:
        return body
    items: list[Any] = _items(raw["input"])
    for position, text in summaries.items():
        items[position] = {"role": "user", "content": text}
    return _encode({**raw, "input": items})


def _is_given(raw: dict[str, msgspec.Raw], name: str) -> bool:
    return name in raw and bytes(raw[name]) != b"null"


class _Reader:
    """Reads one request."""

    def __init__(self) -> None:
        self.only: list[str] = []
        """Fields that only a provider of this API takes."""
        self.required = ""
        """One that must not be dropped."""
        self.custom: set[str] = set()
        self.namespaces: dict[str, tuple[str, str]] = {}
        self.items = ItemReader()

    def read(self, request: ResponseCreate) -> _Members:
        """Return the request in chat's form."""
        messages: list[_Members] = []
        if request.instructions:
            messages.append({"role": "system", "content": request.instructions})
        messages += self.items.read(request.input)
        if not messages and request.previous_response_id is None:
            raise EdgeError("INVALID_VALUE", "input must not be empty.", param="input")
        chat: _Members = {"messages": messages}
        for name in ("model", "models", "temperature", "top_p", "tags", "store", "trace"):
            value = getattr(request, name)
            if value is not None and value != []:
                chat[name] = value
        if request.parallel_tool_calls is not None and request.tools:
            chat["parallel_tool_calls"] = request.parallel_tool_calls
        if request.max_output_tokens is not None:
            chat["max_tokens"] = _whole(request.max_output_tokens, "max_output_tokens")
        if metadata := json_object(request.metadata, "metadata"):
            chat["metadata"] = msgspec.Raw(metadata)
        self._add_tools(request, chat)
        if request.reasoning is not None:
            given = {"effort": request.reasoning.effort, "summary": request.reasoning.summary}
            if reasoning := {key: value for key, value in given.items() if value is not None}:
                chat["reasoning"] = reasoning
        if request.text is not None:
            self._add_format(request.text, chat)
        return chat

    def _add_tools(self, request: ResponseCreate, chat: _Members) -> None:
        tools: list[_Members] = []
        for position, tool in enumerate(request.tools or ()):
            self._tool(tool, f"tools[{position}]", tools)
        if tools:
            chat["tools"] = tools
        choice = request.tool_choice
        if isinstance(choice, ResponseToolChoice):
            chosen = self._choice(choice)
            if chosen is None:
                self.required = self.required or "tool_choice"
            else:
                chat["tool_choice"] = chosen
        elif choice is not None and tools:
            chat["tool_choice"] = choice
        elif choice == "required" and request.tools:
            # All of them run at a provider of this API.
            self.required = self.required or "tool_choice"

    def _tool(self, tool: ResponseTool, where: str, tools: list[_Members]) -> None:
        if tool.type == "namespace":
            if not tool.name:
                raise _missing(f"{where}.name")
            for position, inner in enumerate(tool.tools or ()):
                if not inner.name:
                    raise _missing(f"{where}.tools[{position}].name")
                name = f"{tool.name}__{inner.name}"
                self.namespaces[name] = (tool.name or "", inner.name or "")
                named = msgspec.structs.replace(inner, name=name)
                self._tool(named, f"{where}.tools[{position}]", tools)
            return
        if tool.type not in ("function", "custom"):
            self.only.append(where)
            return
        if not tool.name:
            raise _missing(f"{where}.name")
        function: _Members = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.type == "custom":
            self.custom.add(tool.name)
            text = {"type": "string", "description": _input_description(tool.format)}
            function["parameters"] = {
                "type": "object",
                "properties": {"input": text},
                "required": ["input"],
            }
        elif schema := json_object(tool.parameters, f"{where}.parameters"):
            function["parameters"] = msgspec.Raw(schema)
            if tool.strict is not None:
                function["strict"] = tool.strict
        tools.append({"type": "function", "function": function})

    def _choice(self, choice: ResponseToolChoice) -> Any:
        if choice.type in ("function", "custom"):
            if not choice.name:
                raise _missing("tool_choice.name")
            return _named(choice.name, choice.namespace)
        if choice.type == "allowed_tools":
            tools = [
                _named(tool.name, tool.namespace)
                for tool in choice.tools or ()
                if tool.name and tool.type in ("function", "custom")
            ]
            if tools:
                allowed = {"mode": choice.mode or "auto", "tools": tools}
                return {"type": "allowed_tools", "allowed_tools": allowed}
        return None

    def _add_format(self, text: ResponseText, chat: _Members) -> None:
        form = text.format
        if form is None or form.type == "text":
            return
        if form.type == "json_object":
            chat["response_format"] = {"type": "json_object"}
            return
        schema = json_object(form.schema, "text.format.schema")
        if not schema:
            raise _missing("text.format.schema")
        named: _Members = {"name": form.name or "output", "schema": msgspec.Raw(schema)}
        if form.description is not None:
            named["description"] = form.description
        if form.strict is not None:
            named["strict"] = form.strict
        chat["response_format"] = {"type": "json_schema", "json_schema": named}


def _named(name: str, namespace: str | None) -> _Members:
    name = f"{namespace}__{name}" if namespace else name
    return {"type": "function", "function": {"name": name}}


def _input_description(form: ResponseToolFormat | None) -> str:
    """Return what a model is told of the text for a custom tool: that it has to follow a grammar, if there is one."""
    if form is None or not form.definition:
        return "The whole input of the tool."
    return f"The whole input of the tool. It must match this {form.syntax or ''} grammar:\n{form.definition}"


def _missing(param: str) -> EdgeError:
    return EdgeError("MISSING_REQUIRED_PARAMETER", f"{param} is required.", param=param)


def _whole(value: float, param: str) -> int:
    if value != int(value) or value < 1:
        raise EdgeError("INVALID_VALUE", f"{param} must be a whole number above 0.", param=param)
    return int(value)
