"""Requests in the form of Responses."""

from __future__ import annotations

import re
from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import Prompt
from maniac_core.providers.openai_responses.items import encode_messages
from maniac_core.providers.translation.parameters import (
    Given,
    invalid,
    plain,
    take_limit,
)

# Parameters of chat that this API has no counterpart for.
_CHAT_ONLY = (
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "prediction",
    "modalities",
    "audio",
    "web_search_options",
    "functions",
    "function_call",
)
ENCRYPTED = "reasoning.encrypted_content"
"""What `include` has to name, so that reasoning can go back to a provider which keeps nothing."""
# OpenAI's that do not think, and refuse to be asked for it.
_DOES_NOT_THINK = re.compile(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-)|gpt-5[\d.]*-chat|computer-use")


def encode_body(model: str, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of a request, and the names of dropped parameters.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    given = Given(prompt.parameters)
    given.drop(*_CHAT_ONLY)
    # Counts come unasked.
    given.take("stream_options")
    body: JsonObject = {"model": model}
    tools, custom = _tools(given)
    instructions, items = encode_messages(prompt.messages, custom)
    if instructions is not None:
        body["instructions"] = instructions
    body["input"] = items
    if tools:
        body["tools"] = tools
    if (choice := _tool_choice(given)) is not None:
        body["tool_choice"] = choice
    if text := _text(given):
        body["text"] = text
    if reasoning := _reasoning(given):
        body["reasoning"] = reasoning
    if (limit := take_limit(given)) is not None:
        body["max_output_tokens"] = limit
    if thinks(model):
        body["include"] = [ENCRYPTED]
    # The gateway keeps the conversation.
    body["store"] = False
    if prompt.stream:
        body["stream"] = True
    # All others have the same names, or are the caller's own affair.
    return {**given.rest(), **body}, tuple(given.dropped)


def thinks(model: str) -> bool:
    """Whether a model may have reasoning to send back; one of an unknown name does."""
    return _DOES_NOT_THINK.match(model.rpartition("/")[2]) is None


def _tools(given: Given) -> tuple[list[JsonObject], frozenset[str]]:
    """Return the tools, and the names of those that take text."""
    tools: list[JsonObject] = []
    custom: set[str] = set()
    for position, tool in enumerate(given.take("tools") or ()):
        kind = tool.get("type", "function") if isinstance(tool, dict) else None
        inner = plain(tool.get(kind)) if kind in ("function", "custom") else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise invalid(f"tools[{position}]", "must be a function with a name")
        encoded: JsonObject = {"type": kind, "name": inner["name"]}
        if inner.get("description") is not None:
            encoded["description"] = inner["description"]
        if kind == "custom":
            custom.add(inner["name"])
            if (form := plain(inner.get("format"))) is not None:
                encoded["format"] = _grammar(form)
        else:
            schema = plain(inner.get("parameters"))
            encoded["parameters"] = schema or {"type": "object", "properties": {}}
            # Here it is the default, on chat it is not.
            encoded["strict"] = bool(inner.get("strict"))
        tools.append(encoded)
    return tools, frozenset(custom)


def _grammar(form: Any) -> Any:
    """Return the format of a tool that takes text; chat has a level more around a grammar."""
    grammar = plain(form.get("grammar")) if isinstance(form, dict) else None
    return {"type": "grammar", **grammar} if isinstance(grammar, dict) else form


def _tool_choice(given: Given) -> Any:
    choice = given.take("tool_choice")
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "allowed_tools":
        return _named(choice, "tool_choice")
    allowed = plain(choice.get("allowed_tools"))
    tools = plain(allowed.get("tools")) if isinstance(allowed, dict) else None
    if not isinstance(allowed, dict) or not isinstance(tools, list):
        raise invalid("tool_choice.allowed_tools.tools", "must name a tool")
    where = "tool_choice.allowed_tools.tools"
    names = [_named(plain(tool), f"{where}[{position}]") for position, tool in enumerate(tools)]
    return {"type": "allowed_tools", "mode": allowed.get("mode"), "tools": names}


def _named(choice: Any, param: str) -> JsonObject:
    kind = choice.get("type", "function") if isinstance(choice, dict) else None
    inner = plain(choice.get(kind)) if kind in ("function", "custom") else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise invalid(param, "must be none, auto, required, a tool, or a list of allowed tools")
    return {"type": kind, "name": inner["name"]}


def _text(given: Given) -> JsonObject:
    text: JsonObject = {}
    wanted = given.take("response_format")
    if isinstance(wanted, dict):
        details = plain(wanted.get("json_schema"))
        text["format"] = {"type": wanted.get("type")}
        if isinstance(details, dict):
            text["format"] |= details
    if (verbosity := given.take("verbosity")) is not None:
        text["verbosity"] = verbosity
    return text


def _reasoning(given: Given) -> JsonObject:
    """Return the effort, by whichever of its names, and whether a summary is wanted; the rest is dropped."""
    wanted, effort = given.take("reasoning"), given.take("reasoning_effort")
    reasoning: JsonObject = dict(wanted) if isinstance(wanted, dict) else {}
    # A caller who also sends the plain name means that one.
    if effort is not None:
        reasoning["effort"] = effort
    for key, value in reasoning.items():
        if key not in ("effort", "summary") and value is not None:
            given.note(f"reasoning.{key}")
    kept = {key: plain(reasoning.get(key)) for key in ("effort", "summary")}
    return {key: value for key, value in kept.items() if value is not None}
