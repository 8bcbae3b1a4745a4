"""The output items of a response, and the events by which they come about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maniac_edge.wires.canonical import CallDelta
from maniac_edge.wires.responses.custom_input import CustomInput
from maniac_edge.wires.responses.request import Asked

_Object = dict[str, Any]
Emit = Callable[[_Object], None]
"""Writes an event; it adds the sequence number."""


class OutputItem:
    """One item that is being written."""

    def __init__(self, emit: Emit, position: int, item: _Object) -> None:
        self.item = item
        self._emit = emit
        self._position = position
        self._pieces: list[str] = []
        self.emit("response.output_item.added", item=dict(item))

    def emit(self, kind: str, **values: Any) -> None:
        """Write an event of this item."""
        self._emit({"type": kind, "output_index": self._position, **values})

    def add(self, kind: str, text: str, **values: Any) -> None:
        """Write a piece of the item's text."""
        self._pieces.append(text)
        self.emit(kind, item_id=self.item["id"], **values, delta=text)

    def take_text(self) -> str:
        """Return the text so far; what follows is another one."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def done(self, status: str) -> None:
        """Write the end of the item."""
        self.item["status"] = status
        self.emit("response.output_item.done", item=dict(self.item))


class MessageItem:
    """A message of the model: text, and perhaps a refusal."""

    def __init__(self, emit: Emit, position: int, item_id: str) -> None:
        item = {
            "id": item_id,
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self.out = OutputItem(emit, position, item)
        self._kind = ""
        self._parts: list[_Object] = []

    def add_text(self, text: str) -> None:
        """Write a piece of text."""
        self._enter("output_text", {"text": "", "annotations": [], "logprobs": []})
        self.out.add(
            "response.output_text.delta", text, content_index=len(self._parts) - 1, logprobs=[]
        )

    def add_refusal(self, text: str) -> None:
        """Write a piece of a refusal."""
        self._enter("refusal", {"refusal": ""})
        self.out.add("response.refusal.delta", text, content_index=len(self._parts) - 1)

    def cite(self, annotations: list[_Object]) -> None:
        """Write where the text comes from, as far as this API has a form for it."""
        if self._kind != "output_text":
            return
        known = self._parts[-1]["annotations"]
        for value in filter(None, map(_citation, annotations)):
            self.out.emit(
                "response.output_text.annotation.added",
                item_id=self.out.item["id"],
                content_index=len(self._parts) - 1,
                annotation_index=len(known),
                annotation=value,
            )
            known.append(value)

    def done(self, status: str) -> None:
        """Write the end."""
        self._leave()
        self.out.item["content"] = self._parts
        self.out.done(status)

    def _enter(self, kind: str, part: _Object) -> None:
        if self._kind == kind:
            return
        self._leave()
        self._kind = kind
        self._parts.append({"type": kind, **part})
        self._part("response.content_part.added")

    def _leave(self) -> None:
        if not self._kind:
            return
        key = "text" if self._kind == "output_text" else "refusal"
        part, text = self._parts[-1], self.out.take_text()
        part[key] = text
        more: _Object = {"logprobs": []} if key == "text" else {}
        self.out.emit(
            f"response.{self._kind}.done",
            item_id=self.out.item["id"],
            content_index=len(self._parts) - 1,
            **{key: text},
            **more,
        )
        self._part("response.content_part.done")
        self._kind = ""

    def _part(self, kind: str) -> None:
        self.out.emit(
            kind,
            item_id=self.out.item["id"],
            content_index=len(self._parts) - 1,
            part=dict(self._parts[-1]),
        )


class ReasoningItem:
    """Reasoning: as a summary if the request asks for one, else as it is."""

    def __init__(self, emit: Emit, position: int, item_id: str, *, is_summary: bool) -> None:
        item: _Object = {"id": item_id, "type": "reasoning", "status": "in_progress", "summary": []}
        if not is_summary:
            item["content"] = []
        self.out = OutputItem(emit, position, item)
        self._is_summary = is_summary
        self._has_part = False

    def add(self, text: str) -> None:
        """Write a piece of it."""
        if not self._has_part:
            self._has_part = True
            self._part("added", "")
        self.out.add(f"{self._stem}_text.delta", text, **self._index)

    def done(self, status: str, seal: str | None) -> None:
        """Write the end. `seal`: what the client is to send back."""
        if self._has_part:
            text = self.out.take_text()
            self.out.emit(
                f"{self._stem}_text.done", item_id=self.out.item["id"], **self._index, text=text
            )
            self._part("done", text)
            part = {"type": f"{'summary' if self._is_summary else 'reasoning'}_text", "text": text}
            self.out.item["summary" if self._is_summary else "content"] = [part]
        if seal is not None:
            self.out.item["encrypted_content"] = seal
        self.out.done(status)

    @property
    def _stem(self) -> str:
        return "response.reasoning_summary" if self._is_summary else "response.reasoning"

    @property
    def _index(self) -> dict[str, int]:
        return {"summary_index" if self._is_summary else "content_index": 0}

    def _part(self, what: str, text: str) -> None:
        kind = "summary_text" if self._is_summary else "reasoning_text"
        name = "reasoning_summary_part" if self._is_summary else "content_part"
        self.out.emit(
            f"response.{name}.{what}",
            item_id=self.out.item["id"],
            **self._index,
            part={"type": kind, "text": text},
        )


class CallItem:
    """A call of a tool."""

    def __init__(
        self, emit: Emit, position: int, item_id: str, call: CallDelta, asked: Asked
    ) -> None:
        name = call.function.name or ""
        self._is_custom = name in asked.custom
        item: _Object = {
            "id": f"{'ctc' if self._is_custom else 'fc'}_{item_id}",
            "type": "custom_tool_call" if self._is_custom else "function_call",
            "status": "in_progress",
            "call_id": call.id or "",
            "name": name,
        }
        if name in asked.namespaces:
            item["namespace"], item["name"] = asked.namespaces[name]
        item["input" if self._is_custom else "arguments"] = ""
        self.out = OutputItem(emit, position, item)
        self._input = CustomInput()

    def add(self, text: str) -> None:
        """Write a piece of the arguments."""
        if self._is_custom:
            self._add_input(self._input.add(text))
        else:
            self.out.add("response.function_call_arguments.delta", text)

    def done(self, status: str) -> None:
        """Write the end."""
        item = self.out.item
        if self._is_custom:
            self._add_input(self._input.end())
            item["input"] = text = self.out.take_text()
            self.out.emit("response.custom_tool_call_input.done", item_id=item["id"], input=text)
        else:
            item["arguments"] = text = self.out.take_text()
            self.out.emit(
                "response.function_call_arguments.done",
                item_id=item["id"],
                name=item["name"],
                arguments=text,
            )
        self.out.done(status)

    def _add_input(self, text: str) -> None:
        if text:
            self.out.add("response.custom_tool_call_input.delta", text)


def _citation(annotation: _Object) -> _Object | None:
    """Return a citation of a page in the form of this API; None for anything else."""
    cited = annotation.get("url_citation")
    if not isinstance(cited, dict) or not isinstance(cited.get("url"), str):
        return None
    places = {name: cited.get(name) for name in ("start_index", "end_index")}
    return {
        "type": "url_citation",
        "url": cited["url"],
        "title": str(cited.get("title") or ""),
        **{name: place if isinstance(place, int) else 0 for name, place in places.items()},
    }
