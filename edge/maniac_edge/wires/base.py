"""The seam of a wire: what translates its requests to chat's form, and the answers back."""

from __future__ import annotations

from typing import Protocol

from litestar.types import Scope

from maniac_edge.core.chat import ChatRequest
from maniac_edge.errors import EdgeError


class Writer(Protocol):
    """Makes the answer of one request in the form of its wire. It may keep state."""

    def whole(self, answer: bytes) -> bytes:
        """Return a whole answer, JSON, of one in chat's form."""

    def events(self, data: bytes) -> bytes:
        """Return events of those in chat's form that came together; empty if none is due."""

    def end(self) -> bytes:
        """Return the last events of a stream that is complete, and captured."""

    def failed(self, error: EdgeError, request_id: str) -> bytes:
        """Return the last events of a stream that failed after its head was sent."""

    def native_whole(self, answer: bytes) -> bytes:
        """Return a whole answer of a provider that speaks the wire's own API."""

    def native_events(self, data: bytes) -> bytes:
        """Return events of such a provider."""

    def native_end(self) -> bytes:
        """Return what follows the last of them, once the stream is complete and captured."""


class PassesNative:
    """What most writers do with answers in their own form: nothing."""

    def native_whole(self, answer: bytes) -> bytes:
        """Return the answer as it is; see Writer."""
        return answer

    def native_events(self, data: bytes) -> bytes:
        """Return the events as they are; see Writer."""
        return data

    def native_end(self) -> bytes:
        """Return nothing: the provider's last event has said it; see Writer."""
        return b""


class Wire(Protocol):
    """An API by which completions are asked for."""

    def parse(self, body: bytes, scope: Scope) -> tuple[ChatRequest, Writer | None]:
        """Check and translate a request. Large ones are read in a thread. No writer: the answer is in chat's form.

        Raises:
            EdgeError: INVALID_JSON, INVALID_VALUE, MISSING_REQUIRED_PARAMETER or the like, naming the field.
        """
