"""Requests of wires other than chat: what their edges translated, with the client's own JSON beside it."""

from __future__ import annotations

from typing import Any

import msgspec
from maniac_gateway.v1 import relay_pb2

from maniac_core.domain.chat import RESULT_MEDIA, ChatRequest, JsonObject, Native, Wire
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.rpc.chat.embedded_json import raw_object
from maniac_core.services.access.seals import ProjectSeals

WIRES: dict[int, Wire] = {
    relay_pb2.RELAY_WIRE_RESPONSES: "responses",
    relay_pb2.RELAY_WIRE_MESSAGES: "messages",
    relay_pb2.RELAY_WIRE_GEMINI: "gemini",
    relay_pb2.RELAY_WIRE_COMPLETIONS: "completions",
    relay_pb2.RELAY_WIRE_EMBEDDINGS: "embeddings",
}
"""Those that are translated to chat."""
_seals = msgspec.json.Decoder(list[str]).decode


def wire_request(
    request: ChatRequest, start: relay_pb2.RelayStart, seals: ProjectSeals
) -> ChatRequest:
    """Return a translated request with all that the wire has besides.

    Raises:
        GatewayError: INVALID_VALUE: a seal was not made for this project, or `native` is no JSON object.
    """
    if start.response.background:
        raise GatewayError(
            Reason.ERROR_REASON_NOT_IMPLEMENTED,
            "This deployment makes no responses in the background: leave out background.",
            param="background",
        )
    for position, message in enumerate(request.messages):
        if message["role"] == "tool":
            _mark_result(message)
        else:
            _open_seals(message, seals, f"messages[{position}]")
    native = None
    if start.native:
        raw_object(start.native, "The request")
        native = Native(
            body=msgspec.Raw(start.native),
            only=tuple(start.native_only),
            required=start.native_required or None,
            # A provider knows nothing of the conversations that this gateway keeps.
            is_whole=not start.response.previous_response_id,
        )
    return msgspec.structs.replace(
        request, wire=WIRES[start.wire], native=native, include_usage=True
    )


def _mark_result(message: JsonObject) -> None:
    """Say what of a result chat has no place for; a dialect may."""
    if "is_error" in message:
        message["is_error"] = bytes(message["is_error"]) == b"true"
    content = message["content"]
    if isinstance(content, list) and any(part["type"] != "text" for part in content):
        message[RESULT_MEDIA] = True


def _open_seals(message: JsonObject, seals: ProjectSeals, param: str) -> None:
    """Put the reasoning that a client carried back where dialects look for it."""
    for text in _texts(message.pop("seals", None), f"{param}.seals"):
        opened = seals.open(text, f"{param}.seals")
        if thoughts := opened.get("reasoning"):
            message["reasoning"] = message.get("reasoning", "") + thoughts
        if details := opened.get("reasoning_details"):
            message["reasoning_details"] = [*message.get("reasoning_details", ()), *details]
    for call in message.get("tool_calls", ()):
        if (text := call.pop("seal", None)) is not None:
            call.update(seals.open(str(text), f"{param}.tool_calls"))


def _texts(value: Any, param: str) -> list[str]:
    if value is None:
        return []
    try:
        return _seals(value)
    except (msgspec.DecodeError, TypeError):
        raise GatewayError(
            Reason.ERROR_REASON_INVALID_VALUE, f"{param} must be an array of strings.", param=param
        ) from None
