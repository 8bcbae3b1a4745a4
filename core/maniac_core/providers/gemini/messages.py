"""Contents in Gemini's form: parts of the user and of the model, calls and their responses in the same order."""

from __future__ import annotations

import mimetypes
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.conversation import (
    AssistantTurn,
    Call,
    Conversation,
    Media,
    Part,
    Result,
    ResultsTurn,
    Text,
)
from maniac_core.providers.translation.reasoning_details import has_format

# Marks reasoning details that only this provider can read.
REASONING_FORMAT = "google-gemini-v1"

# Given by Google for calls that its model did not make, where a signature is required.
_FOREIGN_CALL = "skip_thought_signature_validator"


def encode_system(conversation: Conversation) -> JsonObject | None:
    """Return the `systemInstruction` field."""
    if not conversation.system:
        return None
    return {"parts": [{"text": "\n\n".join(part.text for part in conversation.system)}]}


def encode_contents(conversation: Conversation, *, needs_signatures: bool) -> list[JsonObject]:
    """Return the `contents` field.

    With `needs_signatures`, calls of the running tool loop that came without one, from another provider for
    example, are marked so that the model accepts them.
    """
    contents: list[JsonObject] = []
    loop = conversation.open_loop() if needs_signatures else []
    for turn in conversation.turns:
        if isinstance(turn, ResultsTurn):
            _append(contents, "user", _response_parts(turn.results))
        elif isinstance(turn, AssistantTurn):
            marks_foreign = any(turn is open_turn for open_turn in loop)
            if parts := _model_parts(turn, marks_foreign=marks_foreign):
                _append(contents, "model", parts)
        else:
            _append(contents, "user", [_part(part) for part in turn.parts])
    return contents


def _append(contents: list[JsonObject], role: str, parts: list[JsonObject]) -> None:
    if contents and contents[-1]["role"] == role:
        contents[-1]["parts"].extend(parts)
    else:
        contents.append({"role": role, "parts": parts})


def _model_parts(turn: AssistantTurn, *, marks_foreign: bool) -> list[JsonObject]:
    parts = [_part(part) for part in turn.parts]
    for detail in turn.details:
        if has_format(detail, REASONING_FORMAT) and detail.get("data"):
            # It came with a text, or with an empty one at the end of a stream.
            if not parts or "text" not in parts[-1] or "thoughtSignature" in parts[-1]:
                parts.append({"text": ""})
            parts[-1]["thoughtSignature"] = detail["data"]
    for position, call in enumerate(turn.calls):
        part: JsonObject = {
            "functionCall": {"id": call.id, "name": call.name, "args": call.arguments}
        }
        signature = _signature(call)
        if signature is None and marks_foreign and position == 0:
            signature = _FOREIGN_CALL
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _signature(call: Call) -> str | None:
    google = call.extra_content.get("google")
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None


def _response_parts(results: list[Result]) -> list[JsonObject]:
    """Return the responses first, then the images they came with, which have no place inside of them."""
    responses: list[JsonObject] = []
    media: list[JsonObject] = []
    for result in results:
        text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
        media += [_part(part) for part in result.parts if isinstance(part, Media)]
        value = {"error": text} if result.is_error else _response(text)
        response = {"id": result.call.id, "name": result.call.name, "response": value}
        responses.append({"functionResponse": response})
    return responses + media


def _response(text: str) -> Any:
    """Return what a function returned: its JSON object as it is, anything else as the output."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {"output": text}
    return msgspec.Raw(text.encode()) if isinstance(value, dict) else {"output": text}


def _part(part: Part) -> JsonObject:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.url is None:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    file: JsonObject = {"fileUri": part.url}
    media_type = mimetypes.guess_type(part.url.partition("?")[0])[0]
    if media_type is not None:
        file["mimeType"] = media_type
    return {"fileData": file}
