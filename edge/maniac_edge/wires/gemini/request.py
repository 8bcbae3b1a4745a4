"""A request in Gemini's form: translated to the one in which it goes to the core.

The core sends the client's own JSON to a provider that speaks Gemini's API; what is made here is for all others, and for
the record. What others cannot express is left out and named.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
from maniac_gateway.v1 import relay_pb2

from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import as_object, check_json, decode_request
from maniac_edge.wires.gemini.names import with_camel_keys
from maniac_edge.wires.gemini.schema import (
    GeminiConfig,
    GeminiContent,
    GeminiFunction,
    GeminiPart,
    GeminiThinking,
    GenerateContent,
)

CALL_SEAL = "call:"
"""Marks a signature that belongs to the call beside it, and not to thinking."""
_SEAL = "mgs1."
_KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(GenerateContent))
_CONFIG = frozenset(field.encode_name for field in msgspec.structs.fields(GeminiConfig))
_SILENT = frozenset({"safetySettings", "model", "labels"})
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_EFFORTS = ((0, "none"), (2048, "low"), (8192, "medium"))
_decoder = msgspec.json.Decoder(GenerateContent)
_encode = msgspec.json.Encoder().encode
_Members = dict[str, Any]


def parse_request(body: bytes, model: str, *, is_stream: bool) -> relay_pb2.RelayStart:
    """Return what goes to the core for a request body.

    Raises:
        EdgeError: INVALID_JSON, INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    check_json(body)
    read = with_camel_keys(body)
    raw = as_object(read)
    request = decode_request(read, _decoder)
    if not request.contents:
        raise EdgeError("INVALID_VALUE", "contents must not be empty.", param="contents")
    reader = _Reader()
    reader.only += [name for name in raw if name not in _KNOWN and name not in _SILENT]
    if config := raw.get("generationConfig"):
        reader.only += [
            f"generationConfig.{name}" for name in as_object(config) if name not in _CONFIG
        ]
    chat = reader.read(request)
    chat["model"] = model
    return relay_pb2.RelayStart(
        stream=is_stream,
        wire=relay_pb2.RELAY_WIRE_GEMINI,
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
        """Fields that only Gemini takes."""
        self.required = ""
        """One that must not be dropped."""
        self.has_inner = False
        """Whether messages have keys that chat does not declare."""
        self._calls = 0
        self._waiting: list[tuple[str, str]] = []
        """Name and id of the calls that have no result yet."""

    def read(self, request: GenerateContent) -> _Members:
        """Return the request in chat's form, but for the model."""
        messages: list[_Members] = []
        if request.system_instruction is not None:
            texts = [part.text for part in request.system_instruction.parts or () if part.text]
            if texts:
                messages.append({"role": "system", "content": "\n".join(texts)})
        for position, content in enumerate(request.contents):
            where = f"contents[{position}]"
            if content.role == "model":
                messages.append(self._model(content, where))
            else:
                messages += self._user(content, where)
        chat: _Members = {"messages": messages}
        self._add_tools(request, chat)
        if request.generation_config is not None:
            self._add_config(request.generation_config, chat)
        return chat

    def _user(self, content: GeminiContent, where: str) -> list[_Members]:
        results: list[_Members] = []
        parts: list[_Members] = []
        for position, part in enumerate(content.parts or ()):
            at = f"{where}.parts[{position}]"
            if part.function_response is not None:
                given = part.function_response
                call_id = given.id or self._id_of(given.name)
                text = _encode(given.response or {}).decode()
                results.append({"role": "tool", "content": text, "tool_call_id": call_id})
            elif (read := self._part(part, at)) is not None:
                parts.append(read)
        if parts or not results:
            results.append({"role": "user", "content": _plain(parts)})
        return results

    def _id_of(self, name: str) -> str:
        """Return the id of the first call of that name without a result; Gemini's own have none."""
        for entry in self._waiting:
            if entry[0] == name:
                self._waiting.remove(entry)
                return entry[1]
        return name

    def _model(self, content: GeminiContent, where: str) -> _Members:
        texts: list[str] = []
        calls: list[_Members] = []
        seals: list[str] = []
        self._waiting = []
        for position, part in enumerate(content.parts or ()):
            seal = _seal(part.thought_signature)
            if part.function_call is not None:
                call = self._call(part)
                if seal.startswith(CALL_SEAL):
                    self.has_inner = True
                    call["seal"] = seal.removeprefix(CALL_SEAL)
                calls.append(call)
            elif part.text is not None:
                if not part.thought:
                    texts.append(part.text)
            else:
                self.only.append(f"{where}.parts[{position}]")
            if seal.startswith(_SEAL):
                seals.append(seal)
        result: _Members = {"role": "assistant", "content": "".join(texts) or None}
        if calls:
            result["tool_calls"] = calls
        if seals:
            self.has_inner = True
            result["seals"] = seals
        return result

    def _call(self, part: GeminiPart) -> _Members:
        given = part.function_call
        assert given is not None, "the caller has looked"
        self._calls += 1
        call_id = given.id or f"call_{self._calls}"
        self._waiting.append((given.name, call_id))
        arguments = _encode(given.args or {}).decode()
        function = {"name": given.name, "arguments": arguments}
        return {"id": call_id, "type": "function", "function": function}

    def _part(self, part: GeminiPart, where: str) -> _Members | None:
        if part.text is not None:
            return {"type": "text", "text": part.text} if part.text else None
        if (blob := part.inline_data) is not None:
            url = f"data:{blob.mime_type};base64,{blob.data}"
            if blob.mime_type.startswith("image/"):
                return {"type": "image_url", "image_url": {"url": url}}
            return {"type": "file", "file": {"file_data": url}}
        if (file := part.file_data) is not None:
            if (file.mime_type or "").startswith("image/") and file.file_uri.startswith("https://"):
                return {"type": "image_url", "image_url": {"url": file.file_uri}}
            self.required = self.required or f"{where}.fileData"
            return None
        self.only.append(where)
        return None

    def _add_tools(self, request: GenerateContent, chat: _Members) -> None:
        tools: list[_Members] = []
        for position, tool in enumerate(request.tools or ()):
            if tool.function_declarations is None:
                self.only.append(f"tools[{position}]")
            tools += [_tool(function) for function in tool.function_declarations or ()]
        if not tools:
            return
        chat["tools"] = tools
        calling = request.tool_config and request.tool_config.function_calling_config
        if not calling:
            return
        mode = _MODES.get(calling.mode or "AUTO", "auto")
        names = calling.allowed_function_names
        if names and mode != "none":
            named = [{"type": "function", "function": {"name": name}} for name in names]
            allowed = {"mode": mode, "tools": named}
            chat["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
        else:
            chat["tool_choice"] = mode

    def _add_config(self, config: GeminiConfig, chat: _Members) -> None:
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"):
            if (value := getattr(config, name)) is not None:
                chat[name] = value
        if config.max_output_tokens is not None:
            chat["max_tokens"] = config.max_output_tokens
        if config.stop_sequences:
            chat["stop"] = config.stop_sequences
        if config.candidate_count is not None:
            chat["n"] = config.candidate_count
        if config.top_k is not None:
            self.only.append("generationConfig.topK")
        schema = config.response_json_schema or config.response_schema
        if schema is not None:
            named = {"name": "output", "schema": json_schema(schema)}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        elif config.response_mime_type == "application/json":
            chat["response_format"] = {"type": "json_object"}
        if config.thinking_config is not None and (effort := _effort(config.thinking_config)):
            chat["reasoning"] = {"effort": effort}


def _tool(function: GeminiFunction) -> _Members:
    made: _Members = {"name": function.name}
    if function.description is not None:
        made["description"] = function.description
    schema = function.parameters_json_schema or function.parameters
    if schema is not None:
        made["parameters"] = json_schema(schema)
    return {"type": "function", "function": made}


def json_schema(schema: Any) -> Any:
    """Return a schema with the types of JSON Schema, in small letters; Google's clients write them in capitals."""
    if isinstance(schema, list):
        return [json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: json_schema(value) for key, value in schema.items()}
    if isinstance(kind := schema.get("type"), str):
        result["type"] = kind.lower()
    return result


def _effort(thinking: GeminiThinking) -> str:
    if thinking.thinking_level is not None:
        level = thinking.thinking_level.lower()
        return level if level in ("minimal", "low", "medium", "high") else ""
    budget = thinking.thinking_budget
    if budget is None or budget < 0:
        return ""
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def _seal(signature: str | None) -> str:
    """Return the seal in a signature; empty if the gateway did not make it."""
    if not signature:
        return ""
    try:
        text = base64.b64decode(signature.replace("-", "+").replace("_", "/") + "==").decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return text if text.removeprefix(CALL_SEAL).startswith(_SEAL) else ""


def _plain(parts: list[_Members]) -> str | list[_Members]:
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts
