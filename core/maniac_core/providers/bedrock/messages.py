"""Messages in the form of Bedrock's Converse API: one list of blocks per turn, tool results first in the user's turn."""

from __future__ import annotations

import re
from typing import Any

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
from maniac_core.providers.translation.parameters import invalid
from maniac_core.providers.translation.reasoning_details import has_format

REASONING_FORMAT = "aws-bedrock-v1"
"""Marks reasoning details that only Bedrock can read."""

_DOCUMENTS = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_LONGEST_ID = 64
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9()\[\] -]+")
_BLANKS = re.compile(r" {2,}")
_LONGEST_NAME = 180


def encode_system(conversation: Conversation) -> list[JsonObject]:
    """Return the `system` field."""
    return _texts([part for part in conversation.system if part.text.strip()])


def encode_messages(conversation: Conversation, formats: tuple[str, ...]) -> list[JsonObject]:
    """Return the `messages` field. `formats`: those of reasoning details that the model can read.

    Raises:
        GatewayError: INVALID_VALUE for a message that holds only white space, media by URL, and a file of a type that
            is none of a document.
    """
    writer = _Writer(formats)
    for turn in conversation.turns:
        if isinstance(turn, ResultsTurn):
            writer.add("user", [b for result in turn.results for b in writer.result(result)])
        elif isinstance(turn, AssistantTurn):
            writer.add("assistant", writer.assistant(turn))
        elif blocks := writer.blocks(turn.parts):
            writer.add("user", blocks)
        else:
            raise invalid(f"{turn.param}.content", "must not be empty")
    messages = writer.messages
    if messages and messages[-1]["role"] == "assistant" and "text" in messages[-1]["content"][-1]:
        # The start of an answer must not end with white space.
        last = messages[-1]["content"][-1]
        last["text"] = last["text"].rstrip()
    return messages


def cache_point(control: Any) -> list[JsonObject]:
    """Return the block that follows what is to be cached."""
    if control is None:
        return []
    point: JsonObject = {"type": "default"}
    if isinstance(control, dict) and control.get("ttl") in ("5m", "1h"):
        point["ttl"] = control["ttl"]
    return [{"cachePoint": point}]


class _Writer:
    """Writes turn by turn; documents need names of their own within a request."""

    def __init__(self, formats: tuple[str, ...]) -> None:
        self.messages: list[JsonObject] = []
        self._formats = formats
        self._names: set[str] = set()

    def add(self, role: str, blocks: list[JsonObject]) -> None:
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"].extend(blocks)
        else:
            self.messages.append({"role": role, "content": blocks})

    def assistant(self, turn: AssistantTurn) -> list[JsonObject]:
        blocks = [
            block
            for detail in turn.details
            if any(has_format(detail, name) for name in self._formats)
            for block in _reasoning(detail)
        ]
        blocks += self.blocks(turn.parts)
        for call in turn.calls:
            use = {"toolUseId": _tool_id(call), "name": call.name, "input": call.arguments}
            blocks += [{"toolUse": use}, *cache_point(call.cache_control)]
        return blocks

    def result(self, result: Result) -> list[JsonObject]:
        blocks = self.blocks(result.parts)
        points = [block for block in blocks if "cachePoint" in block]
        told: JsonObject = {
            "toolUseId": _tool_id(result.call),
            "content": [block for block in blocks if "cachePoint" not in block],
        }
        if result.is_error:
            told["status"] = "error"
        return [{"toolResult": told}, *points[-1:]]

    def blocks(self, parts: list[Part]) -> list[JsonObject]:
        blocks: list[JsonObject] = []
        for part in parts:
            if isinstance(part, Text):
                # Texts of white space only are refused.
                blocks += _texts([part]) if part.text.strip() else []
            else:
                blocks += [self._media(part), *cache_point(part.cache_control)]
        return blocks

    def _media(self, part: Media) -> JsonObject:
        if part.data is None:
            raise invalid(part.param, "must be a base64 data URL: this provider fetches nothing")
        source = {"bytes": part.data}
        media_type = part.media_type or ""
        if part.kind == "image":
            return {"image": {"format": media_type.removeprefix("image/"), "source": source}}
        if media_type not in _DOCUMENTS:
            known = ", ".join(sorted(_DOCUMENTS.values()))
            raise invalid(part.param, f"must be a document of type {known}")
        document = {
            "format": _DOCUMENTS[media_type],
            "name": self._name(part.name),
            "source": source,
        }
        return {"document": document}

    def _name(self, given: str | None) -> str:
        """Return a name as the provider takes it: few kinds of characters, and no name twice."""
        wanted = given if isinstance(given, str) else ""
        wanted = _BLANKS.sub(" ", _NOT_IN_NAME.sub(" ", wanted)).strip()[:_LONGEST_NAME]
        name, number = wanted or "document", 2
        while name in self._names:
            name, number = f"{wanted or 'document'} ({number})", number + 1
        self._names.add(name)
        return name


def _texts(parts: list[Text]) -> list[JsonObject]:
    return [
        block for part in parts for block in ({"text": part.text}, *cache_point(part.cache_control))
    ]


def _reasoning(detail: JsonObject) -> list[JsonObject]:
    """Return the block of thinking that a client sent back; without its signature it is of no use."""
    if detail.get("type") == "reasoning.text" and detail.get("signature"):
        said = {"text": detail.get("text") or "", "signature": detail["signature"]}
        return [{"reasoningContent": {"reasoningText": said}}]
    if detail.get("type") == "reasoning.encrypted" and has_format(detail, REASONING_FORMAT):
        return [{"reasoningContent": {"redactedContent": detail.get("data") or ""}}]
    return []


def _tool_id(call: Call) -> str:
    # Ids of other providers may be longer, or hold characters that this one refuses.
    return _NOT_IN_ID.sub("_", call.id)[-_LONGEST_ID:]
