"""OpenAI's Responses."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.core.chat import ChatRequest
from maniac_edge.wires.responses.answer import ResponsesWriter
from maniac_edge.wires.responses.request import parse_request


class ResponsesWire:
    """OpenAI's Responses; see Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, ResponsesWriter]:
        """Check and translate a request; see Wire."""
        del scope
        asked = parse_request(body)
        return ChatRequest(asked.start), ResponsesWriter(asked)
