"""Streamed tool calls on OpenAI's wire, made regular.

Indexes come out as 0..n-1, id and name once per call, arguments as text that is never empty at the end. Servers
leave indexes out, give every call index 0, leave ids out or make up a new one per fragment, repeat the name on every
fragment, or send the arguments as an object.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from maniac_core.domain.chat import ToolCallDelta
from maniac_core.providers.openai.wire import WireCall, arguments_of, id_of, new_call_id
from maniac_core.providers.translation.foreign_json import NOT_JSON, check_calls, check_depth


class _Call:
    """One call so far."""

    __slots__ = ("fragments", "id", "name", "number")

    def __init__(self, number: int, call_id: str) -> None:
        self.number = number
        self.id = call_id
        self.name: str | None = None
        self.fragments: list[str] = []

    def is_complete(self) -> bool:
        """Whether the arguments are whole JSON, so that nothing can follow."""
        try:
            msgspec.json.decode("".join(self.fragments))
        except NOT_JSON:
            return False
        return True


class ToolCalls:
    """The tool calls of one choice. False while there are none."""

    __slots__ = ("_by_index", "_calls")

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int | str, _Call] = {}

    def __bool__(self) -> bool:
        """Whether a call was seen."""
        return bool(self._calls)

    def add(self, wires: Sequence[WireCall]) -> tuple[ToolCallDelta, ...]:
        """Take the fragments of one chunk; return what they add.

        Raises:
            UpstreamFailure: there are more calls, or fragments in one chunk, than any answer has.
        """
        check_calls(len(wires), "delta.tool_calls")
        return tuple([delta for wire in wires if (delta := self._add(wire)) is not None])

    def end(self) -> tuple[ToolCallDelta, ...]:
        """Return what the calls still lack: `{}` for those without arguments."""
        return tuple(
            [
                ToolCallDelta(index=call.number, arguments="{}")
                for call in self._calls
                if not any(fragment.strip() for fragment in call.fragments)
            ]
        )

    def _add(self, wire: WireCall) -> ToolCallDelta | None:
        function = wire.function
        name = function.name if function is not None else None
        arguments = function.arguments if function is not None else None
        if arguments.__class__ is not str:
            arguments = arguments_of(arguments)
        wire_id = id_of(wire.id)
        call = self._find(wire.index, wire_id, name)
        new_id = None
        if call is None:
            if wire.index is None and not wire_id and not name:
                return None
            new_id = wire_id or new_call_id()
            call = self._new(wire.index, new_id)
        if arguments:
            call.fragments.append(arguments)
        if call.name is not None or not name:
            name = None
        else:
            call.name = name
        extra = None
        if wire.extra_content is not None:
            check_depth(wire.extra_content, "tool_calls[].extra_content")
            extra = {"extra_content": wire.extra_content}
        if not (new_id or name or arguments or extra):
            return None
        return ToolCallDelta(
            index=call.number, id=new_id, name=name, arguments=arguments, extra=extra
        )

    def _new(self, index: int | str | None, call_id: str) -> _Call:
        call = _Call(len(self._calls), call_id)
        self._calls.append(call)
        check_calls(len(self._calls), "delta.tool_calls")
        if index is not None:
            self._by_index[index] = call
        return call

    def _find(self, index: int | str | None, wire_id: str | None, name: str | None) -> _Call | None:
        """Return the call that a fragment belongs to; None: it starts a new one."""
        if index is not None:
            call = self._by_index.get(index)
            if call is None or not wire_id or wire_id == call.id:
                return call
        elif wire_id:
            return next((call for call in self._calls if call.id == wire_id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or not name:
            return call
        is_other = call.name is not None and (name != call.name or call.is_complete())
        return None if is_other else call
