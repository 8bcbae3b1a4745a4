"""Parameters of a request as a translating dialect uses them up: taken, dropped and noted, or left over."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import GatewayError, Reason

# Parameters that only OpenAI's own wire has.
OPENAI_ONLY = (
    "service_tier",
    "prediction",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "modalities",
    "audio",
    "web_search_options",
    "verbosity",
    "functions",
    "function_call",
    "logit_bias",
)
# Longer than the name of any parameter.
_MAX_NAME = 64


class Given:
    """The parameters not used so far; explicit nulls count as absent."""

    def __init__(self, parameters: JsonObject) -> None:
        self._left = {
            key: value
            for key, value in parameters.items()
            if value is not None and not _is_null(value)
        }
        self.dropped: list[str] = []
        """Names of the parameters that this wire cannot carry, in the order they were met."""

    def take(self, key: str) -> Any:
        """Return a value and use it up; None: absent."""
        return plain(self._left.pop(key, None), key)

    def drop(self, *keys: str) -> None:
        """Use up what is given of these, and note it as dropped."""
        for key in keys:
            if self._left.pop(key, None) is not None:
                self.note(key)

    def note(self, name: str) -> None:
        """Note that something asked for is not sent."""
        name = shown_name(name)
        if name not in self.dropped:
            self.dropped.append(name)

    def rest(self) -> JsonObject:
        """Return what is left and use it up."""
        left, self._left = self._left, {}
        return left


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call."""

    name: str
    description: str | None
    parameters: JsonObject | None
    """JSON Schema."""
    cache_control: Any = None


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A form that the answer has to have."""

    name: str | None = None
    description: str | None = None
    schema: JsonObject | None = None
    """None: any JSON object."""


def shown_name(name: str) -> str:
    """Return a parameter's name as a header can hold it: a caller may have given a key any name."""
    return quote(name[:_MAX_NAME], safe="[]")


def plain(value: Any, param: str = "the request") -> Any:
    """Return a JSON value decoded, if it is still text; `param` is where it stands.

    Raises:
        GatewayError: INVALID_VALUE for numbers out of range, and for deep nesting.
    """
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except RecursionError:
        raise invalid(param, "is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid(param, "holds a number out of range, or text that is not UTF-8") from None


def invalid(param: str, problem: str) -> GatewayError:
    """Return the error for a field that this wire cannot carry."""
    return GatewayError(Reason.ERROR_REASON_INVALID_VALUE, f"{param} {problem}.", param=param)


def take_limit(given: Given) -> int | None:
    """Take the limit of output tokens; `max_completion_tokens` wins."""
    newer, older = given.take("max_completion_tokens"), given.take("max_tokens")
    limit = older if newer is None else newer
    return None if limit is None else int(limit)


def take_stop(given: Given) -> list[str]:
    """Take the stop sequences."""
    stop = given.take("stop")
    if stop is None:
        return []
    return [stop] if isinstance(stop, str) else [text for text in stop if isinstance(text, str)]


def take_tools(given: Given) -> list[Tool]:
    """Take the tools.

    Raises:
        GatewayError: INVALID_VALUE for a tool that is not a function.
    """
    tools: list[Tool] = []
    for position, tool in enumerate(given.take("tools") or ()):
        function = plain(tool.get("function")) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise invalid(f"tools[{position}].type", "must be function")
        if not isinstance(function.get("name"), str):
            raise invalid(f"tools[{position}].function.name", "is required")
        if function.get("strict"):
            given.note("tools.strict")
        tools.append(
            Tool(
                name=function["name"],
                description=function.get("description"),
                parameters=plain(function.get("parameters")),
                cache_control=plain(tool.get("cache_control"), f"tools[{position}].cache_control"),
            )
        )
    return tools


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tools the model may call, and whether it must."""

    mode: Literal["none", "auto", "required", "named"] | None = None
    """None: the provider's default."""
    name: str | None = None
    """The one to call, in mode named."""
    allowed: frozenset[str] | None = None
    """The only ones that may be called. None: all."""

    def of(self, tools: list[Tool]) -> list[Tool]:
        """Return the tools that may be called."""
        return [tool for tool in tools if self.allowed is None or tool.name in self.allowed]


def take_tool_choice(given: Given, tools: list[Tool]) -> ToolChoice:
    """Take the tool choice.

    Raises:
        GatewayError: INVALID_VALUE for any other form, and for an allowed tool that is not in `tools`.
    """
    choice = given.take("tool_choice")
    if choice is None or choice in ("none", "auto", "required"):
        return ToolChoice(mode=choice)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return _allowed_tools(choice, {tool.name for tool in tools})
    function = plain(choice.get("function")) if isinstance(choice, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(
            "tool_choice", "must be none, auto, required, a function, or a list of allowed tools"
        )
    return ToolChoice(mode="named", name=function["name"])


def _allowed_tools(choice: JsonObject, known: set[str]) -> ToolChoice:
    where = "tool_choice.allowed_tools"
    allowed = plain(choice.get("allowed_tools"))
    tools = plain(allowed.get("tools")) if isinstance(allowed, dict) else None
    if not isinstance(allowed, dict) or not isinstance(tools, list) or not tools:
        raise invalid(f"{where}.tools", "must name a tool")
    mode = allowed.get("mode")
    if mode not in ("auto", "required"):
        raise invalid(f"{where}.mode", "must be auto or required")
    names: set[str] = set()
    for position, tool in enumerate(tools):
        function = plain(tool.get("function")) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or name not in known:
            raise invalid(f"{where}.tools[{position}].function.name", "is not one of the tools")
        names.add(name)
    return ToolChoice(mode=mode, allowed=frozenset(names))


def take_format(given: Given) -> Format | None:
    """Take the response format; None: plain text.

    Raises:
        GatewayError: INVALID_VALUE for an unknown type.
    """
    wanted = given.take("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return Format()
    details = plain(wanted.get("json_schema")) if kind == "json_schema" else None
    if not isinstance(details, dict):
        raise invalid("response_format", "must be of type text, json_object or json_schema")
    return Format(
        name=details.get("name"),
        description=details.get("description"),
        schema=plain(details.get("schema")) or None,
    )


def _is_null(value: Any) -> bool:
    return isinstance(value, msgspec.Raw) and bytes(value) == b"null"
