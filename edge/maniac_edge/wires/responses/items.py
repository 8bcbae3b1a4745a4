"""The items of a request's input: from the form of OpenAI's Responses to messages in chat's form."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from maniac_edge.errors import EdgeError
from maniac_edge.wires.responses.schema import ResponseItem, ResponsePart

CALL_SEAL = "call:"
"""Marks encrypted content that belongs to the call after it, and not to reasoning."""
_SEAL = "mgs1."
_COMPACTED = "mgc1."
_SUMMARY = "This is a summary of the conversation so far:\n\n"
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_encode = msgspec.json.Encoder().encode
_Members = dict[str, Any]


class ItemReader:
    """Reads items. Those of one turn of the model become one message."""

    def __init__(self) -> None:
        self.only: list[str] = []
        """Items that only a provider of this API understands."""
        self.required = ""
        """One that must not be dropped."""
        self.has_inner = False
        """Whether messages have keys that chat does not declare."""
        self.summaries: dict[int, str] = {}
        """Texts of messages for the items that stand for a compacted conversation, by position."""
        self._messages: list[_Members] = []
        self._turn: _Members | None = None
        """The model's turn that is being put together."""
        self._call_seal = ""

    def read(self, given: str | list[ResponseItem]) -> list[_Members]:
        """Return the messages.

        Raises:
            EdgeError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
        """
        if isinstance(given, str):
            return [{"role": "user", "content": given}] if given else []
        for position, item in enumerate(given):
            self._read(item, position)
        self._close()
        return self._messages

    def _read(self, item: ResponseItem, position: int) -> None:
        where = f"input[{position}]"
        kind = item.type or "message"
        if kind == "message":
            self._message(item, where)
        elif kind in _CALLS:
            self._call(item, _CALLS[kind], where)
        elif kind in _RESULTS:
            self._result(item, where)
        elif kind == "reasoning":
            self._reasoning(item)
        elif kind == "compaction" and (item.encrypted_content or "").startswith(_COMPACTED):
            self._compaction(item, position)
        elif kind == "item_reference":
            raise EdgeError(
                "UNSUPPORTED_PARAMETER",
                f"{where}: references to items are not supported; send the item itself, or use previous_response_id.",
                param=where,
            )
        else:
            self.only.append(where)

    def _message(self, item: ResponseItem, where: str) -> None:
        if item.role is None:
            raise _missing(f"{where}.role")
        content = self._content(item.content or "", f"{where}.content")
        if item.role != "assistant":
            self._close()
            self._messages.append({"role": item.role, "content": content})
            return
        turn = self._open()
        text = text_of(content)
        if refusals := _refusals(item.content):
            turn["refusal"] = refusals
        if text:
            turn["content"] = (turn["content"] or "") + text

    def _call(self, item: ResponseItem, key: str, where: str) -> None:
        name, given = item.name, getattr(item, key)
        for field, value in (("call_id", item.call_id), ("name", name)):
            if not value:
                raise _missing(f"{where}.{field}")
        if item.namespace:
            name = f"{item.namespace}__{name}"
        arguments = given or ""
        if key == "input":
            arguments = _encode({"input": arguments}).decode()
        call: _Members = {
            "id": item.call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments or "{}"},
        }
        if self._call_seal:
            self.has_inner = True
            call["seal"], self._call_seal = self._call_seal, ""
        self._open().setdefault("tool_calls", []).append(call)

    def _result(self, item: ResponseItem, where: str) -> None:
        if not item.call_id:
            raise _missing(f"{where}.call_id")
        self._close()
        content = self._content(item.output or "", f"{where}.output")
        self._messages.append({"role": "tool", "content": content, "tool_call_id": item.call_id})

    def _reasoning(self, item: ResponseItem) -> None:
        sealed = item.encrypted_content or ""
        if sealed.startswith(CALL_SEAL):
            self._call_seal = sealed.removeprefix(CALL_SEAL)
        elif sealed.startswith(_SEAL):
            self.has_inner = True
            self._open().setdefault("seals", []).append(sealed)

    def _compaction(self, item: ResponseItem, position: int) -> None:
        param = f"input[{position}].encrypted_content"
        given = (item.encrypted_content or "").removeprefix(_COMPACTED)
        try:
            text = base64.b64decode(given.encode(), b"-_", validate=True).decode()
        except ValueError:
            problem = f"{param} is not what this gateway gave out."
            raise EdgeError("INVALID_VALUE", problem, param=param) from None
        self._close()
        self.summaries[position] = _SUMMARY + text
        self._messages.append({"role": "user", "content": _SUMMARY + text})

    def _open(self) -> _Members:
        if self._turn is None:
            self._turn = {"role": "assistant", "content": None}
        return self._turn

    def _close(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and turn != {"role": "assistant", "content": None}:
            self._messages.append(turn)

    def _content(self, given: str | list[ResponsePart], where: str) -> str | list[_Members]:
        """Return content in chat's form: text if it is no more than that."""
        if isinstance(given, str):
            return given
        parts = [
            part
            for position, one in enumerate(given)
            if (part := self._part(one, f"{where}[{position}]")) is not None
        ]
        if all(part["type"] == "text" for part in parts):
            return "".join(part["text"] for part in parts)
        return parts

    def _part(self, part: ResponsePart, where: str) -> _Members | None:
        match part.type:
            case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
                return {"type": "text", "text": part.text or ""}
            case "input_image" if part.image_url:
                image = {"url": part.image_url}
                if part.detail:
                    image["detail"] = part.detail
                return {"type": "image_url", "image_url": image}
            case "input_file" if part.file_data:
                file = {"file_data": part.file_data}
                if part.filename:
                    file["filename"] = part.filename
                return {"type": "file", "file": file}
            case "input_image" | "input_file":
                # Of the provider's own files, or somewhere that it would fetch it from.
                self.required = self.required or where
                return None
            case "refusal":
                return None
            case _:
                self.only.append(where)
                return None


def packed(summary: str) -> str:
    """Return the content of an item that stands for a compacted conversation."""
    return _COMPACTED + base64.urlsafe_b64encode(summary.encode()).decode()


def text_of(content: str | list[_Members]) -> str:
    """Return the text of content in chat's form."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _refusals(content: str | list[ResponsePart] | None) -> str:
    if not isinstance(content, list):
        return ""
    return "".join(part.refusal or "" for part in content if part.type == "refusal")


def _missing(param: str) -> EdgeError:
    return EdgeError("MISSING_REQUIRED_PARAMETER", f"{param} is required.", param=param)
