"""Stream steps: from the contract's messages to events, by the thousand a second.

A frame repeats what is the same in the whole stream, so that part is encoded once, and a plain piece of text goes
without a struct. The shape is `schemas.completions.ChatCompletionChunk`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from maniac_gateway.v1 import chat_pb2
from msgspec import UNSET

from maniac_edge.convert.completions import json_members, usage_to_json
from maniac_edge.schemas import completions as schema

_encode = msgspec.json.Encoder().encode


class ChunkEncoder:
    """Encodes the chunks of one stream."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head = b""
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def events(self, chunks: Iterable[chat_pb2.ChatCompletionChunk]) -> bytes:
        """Return an event per choice, and one for usage if it was asked for.

        The first chunk carries the identity of the answer; on later ones it may be left out.
        """
        events: list[bytes] = []
        for chunk in chunks:
            if not self._head:
                self._head = _head(chunk)
            for choice in chunk.choices:
                events += (self._head, _choice(choice), self._tail)
            if self._include_usage and chunk.HasField("usage"):
                usage = _encode(usage_to_json(chunk.usage))
                events += (self._head, b'],"usage":', usage, b"}\n\n")
        return b"".join(events)


def _head(chunk: chat_pb2.ChatCompletionChunk) -> bytes:
    identity = {
        "id": chunk.id,
        "object": "chat.completion.chunk",
        "created": chunk.create_time.seconds,
        "model": chunk.model,
        "provider": chunk.provider or None,
        "container": chunk.container or None,
    }
    return b"data: " + _encode(identity)[:-1] + b',"choices":['


def _choice(choice: chat_pb2.ChoiceDelta) -> bytes:
    fields = choice.ListFields()
    if len(fields) == 1 and fields[0][0].name == "content":
        content = _encode(fields[0][1])
        return b'{"index":0,"delta":{"content":%b},"finish_reason":null,"logprobs":null}' % content
    return _encode(
        schema.ChunkChoice(
            index=choice.index,
            delta=_delta(choice),
            finish_reason=choice.finish_reason if choice.HasField("finish_reason") else None,
        )
    )


def _delta(choice: chat_pb2.ChoiceDelta) -> schema.Delta:
    delta = schema.Delta()
    if choice.HasField("role"):
        delta.role = choice.role
    if choice.HasField("content"):
        delta.content = choice.content
    if choice.HasField("reasoning"):
        delta.reasoning = choice.reasoning
    if choice.reasoning_details_json:
        delta.reasoning_details = msgspec.Raw(choice.reasoning_details_json)
    if choice.tool_calls:
        delta.tool_calls = [_tool_call_delta(call) for call in choice.tool_calls]
    if choice.HasField("refusal"):
        delta.refusal = choice.refusal
    if choice.extra_json:
        extra = json_members(choice.extra_json)
        delta.annotations = extra.get("annotations", UNSET)
        delta.audio = extra.get("audio", UNSET)
        delta.images = extra.get("images", UNSET)
    return delta


def _tool_call_delta(call: chat_pb2.ToolCallDelta) -> dict[str, Any]:
    result: dict[str, Any] = {"index": call.index}
    if call.HasField("id"):
        result["id"] = call.id
        result["type"] = "function"
    function = {"arguments": call.arguments}
    if call.HasField("name"):
        function["name"] = call.name
    result["function"] = function
    return {**json_members(call.extra_json), **result} if call.extra_json else result
