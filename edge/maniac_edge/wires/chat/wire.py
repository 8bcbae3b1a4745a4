"""OpenAI's chat, which every other wire is translated to."""

from __future__ import annotations

from litestar.types import Scope

from maniac_edge.config import EdgeConfig
from maniac_edge.core.chat import ChatRequest
from maniac_edge.wires.chat.limits import ChatLimits
from maniac_edge.wires.chat.request import parse_request


class ChatWire:
    """OpenAI's chat; see Wire."""

    def __init__(self, config: EdgeConfig) -> None:
        self._limits = ChatLimits(
            messages=config.max_messages, parts=config.max_parts, tools=config.max_tools
        )
        self._strict = config.strict_requests

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, None]:
        """Check a request; see Wire."""
        del scope
        return ChatRequest(parse_request(body, strict=self._strict, limits=self._limits)), None
