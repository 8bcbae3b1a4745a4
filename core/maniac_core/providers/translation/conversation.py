"""A conversation in OpenAI's form, read strictly: for dialects that must know what each message means.

What cannot be understood is refused here, naming the field, instead of being sent on in a changed meaning.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.translation.parameters import invalid, plain
from maniac_core.providers.translation.reasoning_details import merge_details

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,;]+)*;base64,", re.IGNORECASE)
_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_object = msgspec.json.Decoder(dict[str, Any]).decode


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of text; never empty."""

    text: str
    cache_control: Any = None


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """An image or a file, inline or by https URL."""

    kind: Literal["image", "file"]
    param: str
    """Where it stands in the request."""
    media_type: str | None = None
    """None for a URL: unknown."""
    data: str | None = None
    """Base64."""
    url: str | None = None
    name: str | None = None
    cache_control: Any = None


Part = Text | Media


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool in the history."""

    id: str
    name: str
    arguments: msgspec.Raw
    """A JSON object, as the model wrote it."""
    extra_content: JsonObject = {}
    cache_control: Any = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a call."""

    call: Call
    parts: list[Part]
    """Empty: it returned nothing."""
    is_error: bool = False
    """Whether it says that the call failed."""


class UserTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the user."""

    parts: list[Part]
    param: str


class AssistantTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the model."""

    parts: list[Part]
    param: str
    calls: list[Call] = []
    details: list[JsonObject] = []
    """The client's `reasoning_details`, its pieces put together."""


class ResultsTurn(msgspec.Struct, frozen=True, kw_only=True):
    """All results of the calls of the turn before, in the order of the calls."""

    results: list[Result]


Turn = UserTurn | AssistantTurn | ResultsTurn


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its system messages, and these."""

    system: list[Text]
    turns: list[Turn]

    def open_loop(self) -> list[AssistantTurn]:
        """Return the model's turns since the last message of the user, if it waits for tool results."""
        if not self.turns or not isinstance(self.turns[-1], ResultsTurn):
            return []
        loop: list[AssistantTurn] = []
        for turn in reversed(self.turns):
            if isinstance(turn, UserTurn):
                break
            if isinstance(turn, AssistantTurn):
                loop.append(turn)
        return loop[::-1]


def read_conversation(messages: list[JsonObject]) -> Conversation:
    """Read OpenAI messages: system and developer messages hoisted, tool results put with their calls.

    Raises:
        GatewayError: INVALID_VALUE for an unknown role or part, a user message with nothing in it, arguments that are
            no JSON object, a call without its result or a result without its call.
    """
    reader = _Reader()
    for position, message in enumerate(messages):
        reader.add(message, f"messages[{position}]")
    reader.close_results()
    if not reader.turns:
        raise invalid("messages", "must hold a message that is not a system message")
    return Conversation(system=reader.system, turns=reader.turns)


class _Reader:
    """Reads message by message; `_waiting` holds the calls that still need their results."""

    def __init__(self) -> None:
        self.system: list[Text] = []
        self.turns: list[Turn] = []
        self._waiting: list[Call] = []
        self._waiting_param = ""
        self._results: dict[str, Result] = {}

    def add(self, message: JsonObject, param: str) -> None:
        role = message.get("role")
        if role == "tool":
            self._add_result(message, param)
            return
        parts = _parts(message, param)
        if role in ("system", "developer"):
            self._add_system(parts)
        elif role == "user":
            self.close_results()
            self.turns.append(UserTurn(parts=_some(parts, param), param=param))
        elif role == "assistant":
            self.close_results()
            self._add_assistant(message, parts, param)
        else:
            raise invalid(
                f"{param}.role", "must be one of system, developer, user, assistant and tool"
            )

    def close_results(self) -> None:
        """Check that every call has its result, and close their turn."""
        if not self._waiting:
            return
        for call in self._waiting:
            if call.id not in self._results:
                raise invalid(
                    f"{self._waiting_param}.tool_calls",
                    "holds a call that no tool message right after it answers",
                )
        self.turns.append(ResultsTurn(results=[self._results[call.id] for call in self._waiting]))
        self._waiting, self._results = [], {}

    def _add_system(self, parts: list[Part]) -> None:
        for part in parts:
            if not isinstance(part, Text):
                raise invalid(part.param, "is not text, and system messages hold only text")
            self.system.append(part)

    def _add_assistant(self, message: JsonObject, parts: list[Part], param: str) -> None:
        refusal = message.get("refusal")
        if not parts and isinstance(refusal, str) and refusal:
            parts = [Text(text=refusal)]
        calls = [
            _call(call, f"{param}.tool_calls[{position}]")
            for position, call in enumerate(message.get("tool_calls") or ())
        ]
        details = plain(message.get("reasoning_details"))
        if not isinstance(details, list):
            details = []
        details = merge_details([detail for detail in details if isinstance(detail, dict)])
        if not (parts or calls or details):
            # A turn with nothing in it, as some clients keep of an answer that failed.
            return
        self.turns.append(AssistantTurn(parts=parts, param=param, calls=calls, details=details))
        self._waiting, self._waiting_param = calls, param

    def _add_result(self, message: JsonObject, param: str) -> None:
        call_id = message.get("tool_call_id")
        call = next((call for call in self._waiting if call.id == call_id), None)
        if call is None or call.id in self._results:
            raise invalid(
                f"{param}.tool_call_id", "answers no call of the assistant message before"
            )
        is_error = plain(message.get("is_error")) is True
        parts = _parts(message, param)
        self._results[call.id] = Result(call=call, parts=parts, is_error=is_error)


def _parts(message: JsonObject, param: str) -> list[Part]:
    """Read the content of a message; empty texts are left out."""
    content = message.get("content")
    parts: list[Part] = []
    if isinstance(content, str):
        if content:
            parts.append(Text(text=content))
    elif isinstance(content, list):
        for position, part in enumerate(content):
            read = _part(part, f"{param}.content[{position}]")
            if read is not None:
                parts.append(read)
    elif content is not None:
        raise invalid(f"{param}.content", "must be a string, an array of parts, or null")
    control = plain(message.get("cache_control"), f"{param}.cache_control")
    if control is not None and parts:
        parts[-1] = msgspec.structs.replace(parts[-1], cache_control=control)
    return parts


def _part(part: Any, param: str) -> Part | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None and isinstance(part, dict):
        kind = next((key for key in ("text", "image_url", "file") if key in part), None)
    control = (
        plain(part.get("cache_control"), f"{param}.cache_control") if kind is not None else None
    )
    if kind == "text":
        text = part.get("text") or ""
        return Text(text=text, cache_control=control) if text else None
    if kind == "image_url":
        return _image(plain(part.get("image_url")), param, control)
    if kind == "file":
        return _file(plain(part.get("file")), param, control)
    raise invalid(f"{param}.type", "must be one of text, image_url and file")


def _image(image: Any, param: str, control: Any) -> Media:
    url = image.get("url") if isinstance(image, dict) else image
    where = f"{param}.image_url.url"
    if not isinstance(url, str):
        raise invalid(where, "is required")
    if url[:8].lower() == "https://":
        return Media(kind="image", param=where, url=url, cache_control=control)
    media_type, data = _data_url(url, where, "must be an https URL or a base64 data URL")
    if media_type == "image/jpg":
        media_type = "image/jpeg"
    if media_type not in _IMAGE_TYPES:
        raise invalid(where, "must be an image of type jpeg, png, gif or webp")
    return Media(kind="image", param=where, media_type=media_type, data=data, cache_control=control)


def _file(file: Any, param: str, control: Any) -> Media:
    data_url = file.get("file_data") if isinstance(file, dict) else None
    where = f"{param}.file.file_data"
    if not isinstance(data_url, str):
        raise invalid(where, "is required: this provider does not know file ids of OpenAI")
    media_type, data = _data_url(data_url, where, "must be a base64 data URL")
    return Media(
        kind="file",
        param=where,
        media_type=media_type,
        data=data,
        name=file.get("filename"),
        cache_control=control,
    )


def _data_url(url: str, param: str, problem: str) -> tuple[str, str]:
    match = _DATA_URL.match(url)
    if match is None:
        raise invalid(param, problem)
    return match[1].lower(), url[match.end() :]


def _call(call: Any, param: str) -> Call:
    function = plain(call.get("function")) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not call.get("id") or not function.get("name"):
        raise invalid(param, "must have an id and a function with a name")
    arguments = function.get("arguments")
    text = arguments.strip() if isinstance(arguments, str) else ""
    try:
        _object(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        raise invalid(f"{param}.function.arguments", "must be a JSON object as text") from None
    extra = plain(call.get("extra_content"))
    return Call(
        id=call["id"],
        name=function["name"],
        arguments=msgspec.Raw((text or "{}").encode()),
        extra_content=extra if isinstance(extra, dict) else {},
        cache_control=plain(call.get("cache_control")),
    )


def _some(parts: list[Part], param: str) -> list[Part]:
    if not parts:
        raise invalid(f"{param}.content", "must not be empty")
    return parts
