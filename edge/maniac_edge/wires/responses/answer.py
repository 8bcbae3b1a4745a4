"""Answers in the form of OpenAI's Responses: whole ones and their events, from answers in chat's form.

The same steps give the same events with the same numbers, so that a stored answer can be repeated from any of them.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from maniac_edge.errors import EdgeError
from maniac_edge.http import sse
from maniac_edge.wires.base import PassesNative
from maniac_edge.wires.canonical import CallDelta, Chunk, Step, Usage, read_events, read_whole
from maniac_edge.wires.responses.items import CALL_SEAL
from maniac_edge.wires.responses.output import CallItem, MessageItem, ReasoningItem
from maniac_edge.wires.responses.request import Asked
from maniac_edge.wires.responses.response import repeated, response_object

_encode = msgspec.json.Encoder().encode
_TOO_MANY_REQUESTS = 429
_NUMBER = re.compile(rb'"sequence_number":\s*(\d+)')
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_Object = dict[str, Any]


class ResponsesWriter(PassesNative):
    """Writes one response."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._echo = repeated(asked.raw)
        self._identity: Chunk | None = None
        self._items: list[_Object] = []
        self._message: MessageItem | None = None
        self._reasoning: ReasoningItem | None = None
        self._calls: dict[int, CallItem] = {}
        self._usage = Usage()
        self._incomplete: str | None = None
        self._sequence = 0
        self._out: list[bytes] = []

    def whole(self, answer: bytes) -> bytes:
        """Return a whole response; see Writer."""
        for chunk in read_whole(answer):
            self._feed(chunk)
        return _encode(self._finished())

    def events(self, data: bytes) -> bytes:
        """Return the events of steps that came together; see Writer."""
        for chunk in read_events(data):
            self._feed(chunk)
        return self._taken()

    def end(self) -> bytes:
        """Return the last events; see Writer."""
        response = self._finished()
        self._emit({"type": f"response.{response['status']}", "response": response})
        return self._taken() + sse.DONE

    def replayed(self, answer: bytes, after: int) -> bytes:
        """Return the events of a whole answer with sequence numbers above `after`, and the end."""
        for chunk in read_whole(answer):
            self._feed(chunk)
        response = self._finished()
        self._emit({"type": f"response.{response['status']}", "response": response})
        return b"".join(self._out[max(0, after + 1) :]) + sse.DONE

    def failed(self, error: EdgeError, request_id: str) -> bytes:
        """Return the events of a failure; see Writer."""
        del request_id
        if self._identity is not None:
            code = "rate_limit_exceeded" if error.status == _TOO_MANY_REQUESTS else "server_error"
            reason = {"code": code, "message": error.message}
            self._emit({"type": "response.failed", "response": self._response("failed", reason)})
        self._emit(
            {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        )
        return self._taken() + sse.DONE

    def native_events(self, data: bytes) -> bytes:
        """Return the events as they are; the number of one for a failure follows theirs. See Writer."""
        if numbers := _NUMBER.findall(data):
            self._sequence = int(numbers[-1]) + 1
        return data

    def native_end(self) -> bytes:
        """Return the marker of the end, which the provider's may lack; see Writer."""
        return sse.DONE

    def _taken(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    def _emit(self, event: _Object) -> None:
        event["sequence_number"] = self._sequence
        self._sequence += 1
        self._out.append(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event)))

    def _feed(self, chunk: Chunk) -> None:
        if self._identity is None:
            self._identity = chunk
            for kind in ("response.created", "response.in_progress"):
                self._emit({"type": kind, "response": self._response("in_progress")})
        if chunk.usage is not None:
            self._usage = chunk.usage
        for step in chunk.choices:
            self._step(step)

    def _step(self, step: Step) -> None:
        delta = step.delta
        if delta.reasoning:
            self._think(delta.reasoning)
        for seal in delta.seals or ():
            self._end_reasoning(seal)
        if delta.content:
            self._say().add_text(delta.content)
        if delta.annotations and self._message is not None:
            self._message.cite(delta.annotations)
        if delta.refusal:
            self._say().add_refusal(delta.refusal)
        for call in delta.tool_calls or ():
            self._call(call)
        if step.finish_reason is not None:
            self._incomplete = _INCOMPLETE.get(step.finish_reason)
            self._close("incomplete" if self._incomplete else "completed")

    def _think(self, text: str) -> None:
        self._end_message("completed")
        if self._reasoning is None:
            self._reasoning = self._new_reasoning()
        self._reasoning.add(text)

    def _new_reasoning(self) -> ReasoningItem:
        item = ReasoningItem(
            self._emit,
            len(self._items),
            f"rs_{self._next_id()}",
            is_summary=self._asked.wants_summary,
        )
        self._items.append(item.out.item)
        return item

    def _end_reasoning(self, seal: str | None) -> None:
        if not self._asked.wants_seals:
            seal = None
        if self._reasoning is None:
            if seal is None:
                return
            self._end_message("completed")
            self._reasoning = self._new_reasoning()
        self._reasoning.done("completed", seal)
        self._reasoning = None

    def _say(self) -> MessageItem:
        self._end_reasoning(None)
        if self._message is None:
            self._message = MessageItem(self._emit, len(self._items), f"msg_{self._next_id()}")
            self._items.append(self._message.out.item)
        return self._message

    def _end_message(self, status: str) -> None:
        if self._message is not None:
            self._message.done(status)
            self._message = None

    def _call(self, call: CallDelta) -> None:
        item = self._calls.get(call.index)
        if item is None:
            self._end_reasoning(None)
            self._end_message("completed")
            if call.seal:
                self._end_reasoning(CALL_SEAL + call.seal)
            item = self._calls[call.index] = CallItem(
                self._emit, len(self._items), self._next_id(), call, self._asked
            )
            self._items.append(item.out.item)
        if call.function.arguments:
            item.add(call.function.arguments)

    def _close(self, status: str) -> None:
        if self._reasoning is not None:
            self._reasoning.done(status, None)
            self._reasoning = None
        self._end_message(status)
        for _, item in sorted(self._calls.items()):
            item.done(status)
        self._calls.clear()

    def _next_id(self) -> str:
        assert self._identity is not None, "the first step names the response"
        return f"{self._identity.id.removeprefix('resp_')}{len(self._items)}"

    def _finished(self) -> _Object:
        status = "incomplete" if self._incomplete else "completed"
        self._close(status)
        return self._response(status)

    def _response(self, status: str, error: _Object | None = None) -> _Object:
        identity = self._identity
        assert identity is not None, "the first step names the response"
        is_over = status in ("completed", "incomplete")
        return response_object(
            self._echo,
            response_id=identity.id,
            created=identity.created,
            model=identity.model,
            provider=identity.provider,
            status=status,
            output=[dict(item) for item in self._items] if is_over else [],
            usage=self._usage if is_over else None,
            incomplete=self._incomplete if is_over else None,
            error=error,
        )
