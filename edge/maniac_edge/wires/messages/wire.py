"""Anthropic's Messages."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.core.chat import ChatRequest
from maniac_edge.wires.messages.answer import MessagesWriter
from maniac_edge.wires.messages.request import parse_request


class MessagesWire:
    """Anthropic's Messages; see Wire."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, MessagesWriter]:
        """Check and translate a request; see Wire."""
        del scope
        return ChatRequest(parse_request(body)), MessagesWriter()
