"""Messages as the input items of Responses.

The conversation goes as it is: what does not fit together (a call without its result, arguments that are no JSON) is
for the provider to refuse, as it is on chat.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.parameters import invalid, plain
from maniac_core.providers.translation.reasoning_details import has_format, merge_details

REASONING_FORMAT = "openai-responses-v1"
"""Marks reasoning details that only this API can read."""

_SYSTEM = ("system", "developer")
_object = msgspec.json.Decoder(dict[str, Any]).decode


def encode_messages(
    messages: list[JsonObject], custom: Collection[str] = ()
) -> tuple[str | None, list[JsonObject]]:
    """Return `instructions` and `input`: system messages at the start are instructions, if anything follows.

    `custom`: the names of the tools that take text.

    Raises:
        GatewayError: INVALID_VALUE for an unknown role or part, and for a call without id or name.
    """
    leading = 0
    while leading < len(messages) and _is_instruction(messages[leading]):
        leading += 1
    if leading == len(messages):
        leading = 0
    texts = [_text_of(message) for message in messages[:leading]]
    encoder = _Encoder(custom)
    for position, message in enumerate(messages[leading:], leading):
        encoder.add(message, f"messages[{position}]")
    return "\n\n".join(text for text in texts if text) or None, encoder.items


def reasoning_items(details: Any) -> list[JsonObject]:
    """Return the reasoning a client sent back; what another provider made is left out.

    So is what only says what the model thought about: without its content the provider would look for the item among
    those that it keeps.
    """
    items: list[JsonObject] = []
    for detail in _merged(details):
        if not has_format(detail, REASONING_FORMAT):
            continue
        name = detail.get("id")
        last = items[-1] if items else None
        if last is None or "encrypted_content" in last or last.get("id", name) != name:
            last = {"type": "reasoning", "summary": []}
            if isinstance(name, str) and name:
                last["id"] = name
            items.append(last)
        match detail.get("type"):
            case "reasoning.summary":
                part = {"type": "summary_text", "text": detail.get("summary") or ""}
                last["summary"].append(part)
            case "reasoning.text":
                part = {"type": "reasoning_text", "text": detail.get("text") or ""}
                last.setdefault("content", []).append(part)
            case "reasoning.encrypted":
                last["encrypted_content"] = detail.get("data") or ""
    return [item for item in items if item.get("encrypted_content") or "content" in item]


def _merged(details: Any) -> list[JsonObject]:
    given = plain(details)
    if not isinstance(given, list):
        return []
    return merge_details([detail for detail in given if isinstance(detail, dict)])


def _is_instruction(message: JsonObject) -> bool:
    content = message.get("content")
    if message.get("role") not in _SYSTEM:
        return False
    return not isinstance(content, list) or all(part.get("type") == "text" for part in content)


def _text_of(message: JsonObject) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class _Encoder:
    """Encodes message by message."""

    def __init__(self, custom: Collection[str]) -> None:
        self.items: list[JsonObject] = []
        self._custom = custom
        self._custom_ids: set[str] = set()
        """Ids of the calls whose tools take text."""

    def add(self, message: JsonObject, param: str) -> None:
        role = message.get("role")
        if role == "assistant":
            self._add_turn(message, param)
        elif role == "tool":
            self._add_result(message, param)
        elif role == "user" or role in _SYSTEM:
            content = _content(message, param, "input_text")
            self.items.append({"type": "message", "role": role, "content": content})
        else:
            raise invalid(
                f"{param}.role", "must be one of system, developer, user, assistant and tool"
            )

    def _add_turn(self, message: JsonObject, param: str) -> None:
        self.items += reasoning_items(message.get("reasoning_details"))
        content = _content(message, param, "output_text")
        parts = [{"type": "output_text", "text": content}] if isinstance(content, str) else content
        if isinstance(refusal := plain(message.get("refusal")), str) and refusal:
            parts.append({"type": "refusal", "refusal": refusal})
        if parts := [part for part in parts if part.get("text") != ""]:
            self.items.append({"type": "message", "role": "assistant", "content": parts})
        for position, call in enumerate(message.get("tool_calls") or ()):
            self._add_call(call, f"{param}.tool_calls[{position}]")

    def _add_call(self, call: Any, param: str) -> None:
        kind = call.get("type", "function") if isinstance(call, dict) else None
        called = plain(call.get(kind)) if isinstance(kind, str) else None
        if not isinstance(called, dict) or not call.get("id") or not called.get("name"):
            raise invalid(param, "must have an id and a function with a name")
        name, call_id = called["name"], call["id"]
        text = called.get("input") if kind == "custom" else self._custom_input(called)
        item: JsonObject = {"type": "function_call", "call_id": call_id, "name": name}
        if text is None:
            item["arguments"] = called.get("arguments") or "{}"
        else:
            self._custom_ids.add(call_id)
            item |= {"type": "custom_tool_call", "input": text}
        self.items.append(item)

    def _custom_input(self, called: JsonObject) -> str | None:
        """Return the text for a tool that takes text, whose calls are shown as JSON with that text in it."""
        if called["name"] not in self._custom:
            return None
        try:
            text = _object(called.get("arguments") or "{}").get("input")
        except (msgspec.DecodeError, RecursionError):
            return None
        return text if isinstance(text, str) else None

    def _add_result(self, message: JsonObject, param: str) -> None:
        call_id = message.get("tool_call_id")
        kind = "custom_tool_call" if call_id in self._custom_ids else "function_call"
        output = _content(message, param, "input_text")
        self.items.append({"type": f"{kind}_output", "call_id": call_id, "output": output})


def _content(message: JsonObject, param: str, text_type: str) -> str | list[JsonObject]:
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return [
        _part(part, f"{param}.content[{position}]", text_type)
        for position, part in enumerate(content)
    ]


def _part(part: JsonObject, param: str, text_type: str) -> JsonObject:
    match part.get("type"):
        case "text":
            return {"type": text_type, "text": part.get("text") or ""}
        case "refusal" if text_type == "output_text":
            return {"type": "refusal", "refusal": plain(part.get("refusal")) or ""}
        case "image_url":
            image = plain(part.get("image_url"))
            if not isinstance(image, dict):
                image = {"url": image}
            encoded: JsonObject = {"type": "input_image", "image_url": image.get("url")}
            if image.get("detail"):
                encoded["detail"] = image["detail"]
            return encoded
        case "file":
            file = plain(part.get("file"))
            return {"type": "input_file", **(file if isinstance(file, dict) else {})}
    raise invalid(f"{param}.type", "must be one of text, image_url and file")
