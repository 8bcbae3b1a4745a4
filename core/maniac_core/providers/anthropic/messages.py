"""Messages in Anthropic's form: one block list per turn, tool results first in the user's turn."""

from __future__ import annotations

import re
from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.conversation import (
    AssistantTurn,
    Conversation,
    Media,
    Part,
    Result,
    ResultsTurn,
    Text,
)
from maniac_core.providers.translation.parameters import invalid
from maniac_core.providers.translation.reasoning_details import has_format

# Marks reasoning details that only this provider can read.
REASONING_FORMAT = "anthropic-claude-v1"

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def encode_system(conversation: Conversation) -> str | list[JsonObject] | None:
    """Return the `system` field: text, or blocks when one of them is marked for the cache."""
    texts = [part for part in conversation.system if part.text.strip()]
    if not texts:
        return None
    if any(part.cache_control is not None for part in texts):
        return [_text_block(part) for part in texts]
    return "\n\n".join(part.text for part in texts)


def encode_messages(conversation: Conversation) -> list[JsonObject]:
    """Return the `messages` field.

    Raises:
        GatewayError: INVALID_VALUE for a message that holds only white space, and for a file that is not a PDF.
    """
    messages: list[JsonObject] = []
    for turn in conversation.turns:
        if isinstance(turn, ResultsTurn):
            _append(messages, "user", [_result_block(result) for result in turn.results])
        elif isinstance(turn, AssistantTurn):
            if blocks := _assistant_blocks(turn):
                _append(messages, "assistant", blocks)
        else:
            _append(messages, "user", _blocks(turn.parts, turn.param))
    if messages and messages[-1]["role"] == "assistant":
        _trim_prefill(messages[-1]["content"])
    return messages


def thinking_blocks(turn: AssistantTurn) -> list[JsonObject]:
    """Return the thinking blocks a client sent back: the signed and the redacted ones, unchanged."""
    blocks: list[JsonObject] = []
    for detail in turn.details:
        if not has_format(detail, REASONING_FORMAT, default=REASONING_FORMAT):
            continue
        if detail.get("type") == "reasoning.text" and detail.get("signature"):
            blocks.append(
                {
                    "type": "thinking",
                    "thinking": detail.get("text") or "",
                    "signature": detail["signature"],
                }
            )
        elif detail.get("type") == "reasoning.encrypted" and detail.get("data"):
            blocks.append({"type": "redacted_thinking", "data": detail["data"]})
    return blocks


def _append(messages: list[JsonObject], role: str, blocks: list[JsonObject]) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"].extend(blocks)
    else:
        messages.append({"role": role, "content": blocks})


def _assistant_blocks(turn: AssistantTurn) -> list[JsonObject]:
    blocks = thinking_blocks(turn)
    blocks += _blocks(turn.parts, turn.param, may_be_blank=True)
    for call in turn.calls:
        block: JsonObject = {
            "type": "tool_use",
            "id": _tool_id(call.id),
            "name": call.name,
            "input": call.arguments,
        }
        blocks.append(_cached(block, call.cache_control))
    return blocks


def _blocks(parts: list[Part], param: str, *, may_be_blank: bool = False) -> list[JsonObject]:
    # Blocks of nothing but white space are refused by the provider.
    blocks = [
        _text_block(part) if isinstance(part, Text) else _media_block(part)
        for part in parts
        if not isinstance(part, Text) or part.text.strip()
    ]
    if not blocks and not may_be_blank:
        raise invalid(f"{param}.content", "must not be empty")
    return blocks


def _result_block(result: Result) -> JsonObject:
    block: JsonObject = {"type": "tool_result", "tool_use_id": _tool_id(result.call.id)}
    if result.is_error:
        block["is_error"] = True
    blocks = _blocks(result.parts, "", may_be_blank=True)
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        block["content"] = blocks[0]["text"]
    elif blocks:
        control = blocks[-1].pop("cache_control", None)
        block["content"] = blocks
        return _cached(block, control)
    return block


def _text_block(part: Text) -> JsonObject:
    return _cached({"type": "text", "text": part.text}, part.cache_control)


def _media_block(part: Media) -> JsonObject:
    if part.url is not None:
        source: JsonObject = {"type": "url", "url": part.url}
    else:
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    if part.kind == "image":
        return _cached({"type": "image", "source": source}, part.cache_control)
    if part.media_type != "application/pdf":
        raise invalid(part.param, "must be a PDF: this provider takes no other files")
    block: JsonObject = {"type": "document", "source": source}
    if part.name:
        block["title"] = part.name
    return _cached(block, part.cache_control)


def _cached(block: JsonObject, control: Any) -> JsonObject:
    if control is not None:
        block["cache_control"] = control
    return block


def _tool_id(call_id: str) -> str:
    # Ids of other providers may hold characters that this one refuses.
    return _NOT_IN_ID.sub("_", call_id)


def _trim_prefill(blocks: list[JsonObject]) -> None:
    """Cut white space off the end of an answer that the model is to continue: the provider refuses it."""
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
