"""How much of everything a chat request may hold: what is made of it takes a hundred times its bytes."""

from __future__ import annotations

import msgspec

from maniac_edge.errors import EdgeError
from maniac_edge.schemas import chat

# A content part takes as much of a body, with its comma.
_LEAST_BYTES = 3


class ChatLimits(msgspec.Struct, frozen=True):
    """The most of each kind."""

    messages: int = 10_000
    parts: int = 10_000
    """In all messages together."""
    tools: int = 1_000

    def check(self, request: chat.ChatCompletionRequest, body_bytes: int) -> None:
        """Refuse a request, of a body of so many bytes, that has more.

        Raises:
            EdgeError: INVALID_VALUE, naming the field.
        """
        if len(request.messages) > self.messages:
            raise _too_many("messages", len(request.messages), self.messages, "max_messages")
        if request.tools and len(request.tools) > self.tools:
            raise _too_many("tools", len(request.tools), self.tools, "max_tools")
        if body_bytes > _LEAST_BYTES * self.parts:
            contents = (message.content for message in request.messages)
            parts = sum(len(content) for content in contents if isinstance(content, list))
            if parts > self.parts:
                raise _too_many("messages", parts, self.parts, "max_parts", "content parts")


def _too_many(param: str, count: int, limit: int, setting: str, what: str = "") -> EdgeError:
    return EdgeError(
        "INVALID_VALUE",
        f"{count} {what or param} are too many: a request may have at most {limit} ({setting}).",
        param=param,
    )
