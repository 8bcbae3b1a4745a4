"""A Messages request: from Anthropic's form to the one in which it goes to the core.

The core sends the client's own JSON to a provider that speaks Messages; what is made here is for all others, and for the
record. What others cannot express is left out and named; what must not be left out keeps them from being called.
"""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import relay_pb2
from msgspec import UNSET, UnsetType

from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import check_json, decode_request, json_object
from maniac_edge.wires.messages.schema import (
    BlockSource,
    MessageBlock,
    MessagesCount,
    MessagesRequest,
    MessageThinking,
    MessageTool,
    MessageToolChoice,
    MessageTurn,
)

CALL_SEAL = "call:"
"""Marks a signature that belongs to the call after it, and not to thinking."""
_SEAL = "mgs1."
_FORMAT = "anthropic-claude-v1"
_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(MessagesRequest))
# What only steers how Anthropic serves the request, so that nobody misses it elsewhere.
_SILENT = frozenset({"anthropic_version"})
_BUDGETS = ((2048, "low"), (8192, "medium"))
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_decoder: msgspec.json.Decoder[MessagesRequest] = msgspec.json.Decoder(MessagesRequest)
_count: msgspec.json.Decoder[MessagesRequest] = msgspec.json.Decoder(MessagesCount)
_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_Members = dict[str, Any]


def parse_request(body: bytes, *, is_count: bool = False) -> relay_pb2.RelayStart:
    """Return what goes to the core for a request body. `is_count`: of one whose tokens are only counted.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    raw = check_json(body)
    request = decode_request(body, _count if is_count else _decoder)
    if not request.messages:
        raise EdgeError("INVALID_VALUE", "messages must not be empty.", param="messages")
    if request.model is None and not request.models:
        raise EdgeError("MISSING_REQUIRED_PARAMETER", "model is required.", param="model")
    reader = _Reader()
    reader.only += [name for name in raw if name not in _KNOWN and name not in _SILENT]
    chat = reader.read(request)
    return relay_pb2.RelayStart(
        stream=bool(request.stream),
        wire=relay_pb2.RELAY_WIRE_MESSAGES,
        body=_encode(chat),
        has_unknown_inner_keys=reader.has_inner,
        native=body,
        native_only=reader.only,
        native_required=reader.required,
    )


class _Reader:
    """Reads one request."""

    def __init__(self) -> None:
        self.only: list[str] = []
        """Fields that only Anthropic takes."""
        self.required = ""
        """One that must not be dropped."""
        self.has_inner = False
        """Whether messages or tools have keys that chat does not declare."""

    def read(self, request: MessagesRequest) -> _Members:
        """Return the request in chat's form."""
        messages: list[_Members] = []
        if request.system:
            content = self._content(request.system, "system")
            if content:
                messages.append({"role": "system", "content": content})
        for position, message in enumerate(request.messages):
            messages += self._message(message, f"messages[{position}]")
        chat: _Members = {"messages": messages}
        for name in ("model", "models", "temperature", "top_p", "tags", "store"):
            if (value := getattr(request, name)) or (
                (name == "store" and value is False)
                or (name in ("temperature", "top_p") and value is not None)
            ):
                chat[name] = value
        if request.max_tokens == 0:
            # It only fills Anthropic's cache.
            self.required = "max_tokens"
        elif request.max_tokens is not None:
            chat["max_tokens"] = _whole(request.max_tokens, "max_tokens")
        if request.stop_sequences:
            chat["stop"] = request.stop_sequences
        if metadata := json_object(request.maniac_metadata, "maniac_metadata"):
            chat["metadata"] = msgspec.Raw(metadata)
        if request.trace is not None:
            chat["trace"] = request.trace
        if tools := [t for i, tool in enumerate(request.tools or ()) if (t := self._tool(tool, i))]:
            chat["tools"] = tools
            if request.tool_choice is not None:
                self._choose(request.tool_choice, chat)
        if effort := self._effort(request):
            chat["reasoning"] = {"effort": effort}
        if (config := request.output_config) is not None and config.format is not None:
            schema = json_object(config.format.schema, "output_config.format.schema")
            if config.format.type != "json_schema" or not schema:
                raise EdgeError(
                    "INVALID_VALUE",
                    "output_config.format must be of type json_schema and have a schema.",
                    param="output_config.format",
                )
            named = {"name": "output", "schema": msgspec.Raw(schema)}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        return chat

    def _effort(self, request: MessagesRequest) -> str:
        thinking = request.thinking
        if request.output_config is not None and (effort := request.output_config.effort):
            if effort in _EFFORTS:
                return effort
            self.only.append("output_config.effort")
        if thinking is None or thinking.type != "enabled":
            return ""
        return _effort_of(thinking)

    def _tool(self, tool: MessageTool, position: int) -> _Members | None:
        where = f"tools[{position}]"
        if tool.type not in (None, "custom"):
            self.only.append(where)
            return None
        if not tool.name:
            raise _missing(f"{where}.name")
        function: _Members = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if schema := json_object(tool.input_schema, f"{where}.input_schema"):
            function["parameters"] = msgspec.Raw(schema)
        if tool.strict is not None:
            function["strict"] = tool.strict
        return self._cached({"type": "function", "function": function}, tool.cache_control)

    def _choose(self, choice: MessageToolChoice, chat: _Members) -> None:
        if choice.disable_parallel_tool_use:
            chat["parallel_tool_calls"] = False
        if choice.type == "tool":
            names = {tool["function"]["name"] for tool in chat["tools"]}
            if choice.name is None:
                raise _missing("tool_choice.name")
            if choice.name not in names:
                self.required = "tool_choice"
                return
            chat["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        elif choice.type in _CHOICES:
            chat["tool_choice"] = _CHOICES[choice.type]
        else:
            self.required = "tool_choice"

    def _message(self, message: MessageTurn, where: str) -> list[_Members]:
        if message.role == "assistant":
            turn = self._assistant(message, where)
            # One of which nothing is left is more than some providers take.
            return [turn] if len(turn) > 2 or turn["content"] else []
        if isinstance(message.content, str):
            return [{"role": message.role, "content": message.content}]
        results: list[_Members] = []
        others: list[MessageBlock] = []
        for position, block in enumerate(message.content):
            if block.type == "tool_result":
                results.append(self._result(block, f"{where}.content[{position}]"))
            else:
                others.append(block)
        if others or not results:
            content = self._content(others, where)
            results.append({"role": message.role, "content": content})
        return results

    def _result(self, block: MessageBlock, where: str) -> _Members:
        if block.tool_use_id is None:
            raise _missing(f"{where}.tool_use_id")
        given = block.content
        content = self._content(given, where) if isinstance(given, str | list) else ""
        result: _Members = {
            "role": "tool",
            "content": content or "",
            "tool_call_id": block.tool_use_id,
        }
        if block.is_error:
            self.has_inner = True
            result["is_error"] = True
        return self._cached(result, block.cache_control)

    def _assistant(self, message: MessageTurn, where: str) -> _Members:
        if isinstance(message.content, str):
            return {"role": "assistant", "content": message.content}
        texts: list[MessageBlock] = []
        calls: list[_Members] = []
        details: list[_Members] = []
        seals: list[str] = []
        call_seal = ""
        for position, block in enumerate(message.content):
            at = f"{where}.content[{position}]"
            signed = block.signature or block.data or ""
            if block.type in ("thinking", "redacted_thinking"):
                if signed.startswith(CALL_SEAL):
                    call_seal = signed.removeprefix(CALL_SEAL)
                elif signed.startswith(_SEAL):
                    seals.append(signed)
                elif signed:
                    details.append(_detail(block))
            elif block.type == "tool_use":
                calls.append(self._call(block, call_seal, at))
                call_seal = ""
            elif block.type == "text":
                texts.append(block)
            else:
                self.only.append(at)
        content = self._content(texts, where)
        result: _Members = {"role": "assistant", "content": content or (None if calls else "")}
        if calls:
            result["tool_calls"] = calls
        if details:
            result["reasoning_details"] = details
        if seals:
            self.has_inner = True
            result["seals"] = seals
        return result

    def _call(self, block: MessageBlock, seal: str, where: str) -> _Members:
        for name in ("id", "name"):
            if not getattr(block, name):
                raise _missing(f"{where}.{name}")
        arguments = json_object(block.input, f"{where}.input").decode() or "{}"
        call: _Members = {
            "id": block.id,
            "type": "function",
            "function": {"name": block.name, "arguments": arguments},
        }
        if seal:
            self.has_inner = True
            call["seal"] = seal
        return self._cached(call, block.cache_control)

    def _content(self, given: str | list[MessageBlock], where: str) -> str | list[_Members]:
        """Return content in chat's form: text if it is no more than that."""
        if isinstance(given, str):
            return given
        if len(given) == 1 and given[0].type == "text" and not _is_cached(given[0]):
            return given[0].text or ""
        parts: list[_Members] = []
        for position, block in enumerate(given):
            made = self._parts(block, f"{where}.content[{position}]")
            parts += [self._cached(part, block.cache_control) for part in made]
        return parts or ""

    def _parts(self, block: MessageBlock, where: str) -> list[_Members]:
        source = block.source
        match block.type:
            case "text":
                return [_text(block.text or "")] if block.text else []
            case "image" if isinstance(source, BlockSource):
                return [self._image(source, where)]
            case "document" if isinstance(source, BlockSource):
                return self._document(block, source, where)
            case "search_result":
                texts = [block.title or "", source if isinstance(source, str) else ""]
                if isinstance(block.content, list):
                    texts += [inner.text or "" for inner in block.content]
                return [_text("\n".join(text for text in texts if text))]
            case _:
                self.only.append(where)
                return []

    def _image(self, source: BlockSource, where: str) -> _Members:
        if source.type == "base64" and source.data:
            url = f"data:{source.media_type};base64,{source.data}"
        elif source.type == "url" and source.url:
            url = source.url
        else:
            # Of Anthropic's own files, which no other provider has.
            self.required = f"{where}.source"
            url = "https://files.invalid/"
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: MessageBlock, source: BlockSource, where: str) -> list[_Members]:
        about = [_text(text) for text in (block.title, block.context) if text]
        if source.type == "text" and source.data is not None:
            return [*about, _text(source.data)]
        if source.type == "content" and source.content is not None:
            content = self._content(source.content, f"{where}.source")
            return [*about, *([_text(content)] if isinstance(content, str) else content)]
        if source.type == "base64" and source.data:
            file = {"file_data": f"data:{source.media_type};base64,{source.data}"}
            if block.title:
                file["filename"] = block.title
            return [{"type": "file", "file": file}]
        self.required = f"{where}.source"
        return []

    def _cached(self, part: _Members, control: msgspec.Raw | UnsetType) -> _Members:
        if control is not UNSET and bytes(control) != _NULL:
            self.has_inner = True
            part["cache_control"] = control
        return part


def _is_cached(block: MessageBlock) -> bool:
    control = block.cache_control
    return control is not UNSET and bytes(control) != _NULL


def _text(text: str) -> _Members:
    return {"type": "text", "text": text}


def _detail(block: MessageBlock) -> _Members:
    if block.type == "redacted_thinking":
        return {"type": "reasoning.encrypted", "data": block.data, "format": _FORMAT}
    return {
        "type": "reasoning.text",
        "text": block.thinking or "",
        "signature": block.signature,
        "format": _FORMAT,
    }


def _effort_of(thinking: MessageThinking) -> str:
    budget = thinking.budget_tokens or 0
    return next((effort for most, effort in _BUDGETS if budget <= most), "high")


def _missing(param: str) -> EdgeError:
    return EdgeError("MISSING_REQUIRED_PARAMETER", f"{param} is required.", param=param)


def _whole(value: float, param: str) -> int:
    if value != int(value) or value < 1:
        raise EdgeError("INVALID_VALUE", f"{param} must be a whole number above 0.", param=param)
    return int(value)
