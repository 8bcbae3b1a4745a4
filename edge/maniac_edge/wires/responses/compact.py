"""Compaction: a conversation becomes a summary by its model, which goes on in place of it.

The summary is asked for as a response of its own. It comes back as an item that clients carry and do not look into.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar.types import Scope
from msgspec import Meta

from maniac_edge.core.chat import ChatRequest
from maniac_edge.errors import EdgeError
from maniac_edge.requests.validation import check_json, decode_request
from maniac_edge.wires.responses.answer import ResponsesWriter
from maniac_edge.wires.responses.items import ItemReader, packed, text_of
from maniac_edge.wires.responses.request import Asked, parse_request
from maniac_edge.wires.responses.schema import ResponseItem, ResponseUsage

_ASK = (
    "Summarize the conversation below, so that it can be continued from the summary alone. Keep the goals, the decisions,"
    " the facts and names that were found, what has been done and what is left to do. Answer with the summary only."
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_Object = dict[str, Any]


class ResponseCompact(msgspec.Struct):
    """A conversation that is to be compacted. Further keys are ignored."""

    model: Annotated[str, Meta(description="Slug of the model that writes the summary.")]
    input: Annotated[
        str | list[ResponseItem], Meta(description="The conversation, as for a response.")
    ]
    instructions: str | None = None
    previous_response_id: str | None = None


class CompactedResponse(msgspec.Struct):
    """A compacted conversation: `output` is the input that stands for it from now on."""

    id: str
    object: Literal["response.compaction"]
    created_at: Annotated[int, Meta(description="Unix seconds.")]
    output: list[dict[str, Any]]
    usage: ResponseUsage


_decoder = msgspec.json.Decoder(ResponseCompact)


class CompactWire:
    """Compaction; see Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, ResponsesWriter]:
        """Return the request for the summary, and what writes the answer; see Wire."""
        del scope
        asked, user_texts = _parse(body)
        return ChatRequest(asked.start), CompactWriter(asked, user_texts)


def _parse(body: bytes) -> tuple[Asked, list[str]]:
    check_json(body)
    request = decode_request(body, _decoder)
    if request.previous_response_id is not None:
        param = "previous_response_id"
        raise EdgeError(
            "UNSUPPORTED_PARAMETER",
            f"{param} is not supported here; send the items of the conversation.",
            param=param,
        )
    messages = ItemReader().read(request.input)
    if not messages:
        raise EdgeError("INVALID_VALUE", "input must not be empty.", param="input")
    asked = parse_request(
        _encode(
            {
                "model": request.model,
                "instructions": _ASK,
                "input": _transcript(request.instructions, messages),
                "store": False,
            }
        )
    )
    kept = [message["content"] for message in messages if message["role"] == "user"]
    return asked, [text_of(content) for content in kept]


def _transcript(instructions: str | None, messages: list[_Object]) -> str:
    """Return a conversation as text: a model that is shown calls as its own wants their tools."""
    turns = [] if instructions is None else [f"[instructions]\n{instructions}"]
    for message in messages:
        lines = [f"[{message['role']}]"]
        if text := text_of(message["content"] or ""):
            lines.append(text)
        for call in message.get("tool_calls", ()):
            function = call["function"]
            lines.append(f"(calls {function['name']} with {function['arguments']})")
        turns.append("\n".join(lines))
    return "\n\n".join(turns)


class CompactWriter(ResponsesWriter):
    """Writes one compacted conversation: the response that it is made of, read for its text."""

    def __init__(self, asked: Asked, user_texts: list[str]) -> None:
        super().__init__(asked)
        self._user_texts = user_texts

    def whole(self, answer: bytes) -> bytes:
        """Return the compacted conversation; see Writer."""
        return self.native_whole(super().whole(answer))

    def native_whole(self, answer: bytes) -> bytes:
        """Return it for an answer of a provider that speaks Responses; see Writer."""
        response = _decode(answer)
        suffix = response["id"].removeprefix("resp_")
        summary = "".join(
            part.get("text", "")
            for item in response["output"]
            if item["type"] == "message"
            for part in item["content"]
        )
        output: list[_Object] = [
            {
                "id": f"msg_{suffix}{position}",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            }
            for position, text in enumerate(self._user_texts)
        ]
        item = {"id": f"cmp_{suffix}", "type": "compaction", "encrypted_content": packed(summary)}
        output.append(item)
        return _encode(
            {
                "id": response["id"],
                "object": "response.compaction",
                "created_at": response["created_at"],
                "output": output,
                "usage": response["usage"],
            }
        )
