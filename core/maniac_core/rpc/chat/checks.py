"""Checks that the values of a chat request match the contract, whoever sends it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maniac_core.domain.chat import MAX_TAGS, ChatRequest, JsonObject
from maniac_core.domain.errors import GatewayError, Reason

_ROLES = frozenset({"system", "user", "assistant", "developer", "tool"})
_PARTS = frozenset({"text", "image_url", "file", "input_audio"})
_MODES = frozenset({"none", "auto", "required"})
_ALLOWED_MODES = frozenset({"auto", "required"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_SUMMARIES = frozenset({"auto", "concise", "detailed"})
_LONGEST = {"messages": 10_000, "tools": 1_000, "tags": MAX_TAGS, "models": 256}
_MAX_PARTS = 10_000
"""Of all messages together."""
_NUMBERS = frozenset({"frequency_penalty", "presence_penalty", "temperature", "top_p"})


def check_sizes(given: Mapping[str, Any]) -> None:
    """Check how many there are of everything, before anything is made of them; `given` has what is set, by name.

    Raises:
        GatewayError: INVALID_VALUE, naming the field.
    """
    if not given.get("messages"):
        raise _invalid("messages", "messages must not be empty.")
    for name, longest in _LONGEST.items():
        if name in given and len(given[name]) > longest:
            raise _invalid(name, f"{name} must not hold more than {longest} items.")


def check_request(request: ChatRequest) -> None:
    """Check what the types of a request leave open.

    Raises:
        GatewayError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    parts = 0
    for i, message in enumerate(request.messages):
        if message["role"] not in _ROLES:
            raise _other(_ROLES, message["role"], f"messages[{i}].role")
        content = message["content"]
        if content.__class__ is list:
            parts += len(content)
            if parts > _MAX_PARTS:
                raise _invalid(
                    "messages", f"messages must not hold more than {_MAX_PARTS} content parts."
                )
            for j, part in enumerate(content):
                _one_of(_PARTS, part["type"], f"messages[{i}].content[{j}].type")
    parameters = request.parameters
    for name in _NUMBERS.intersection(parameters):
        if not math.isfinite(parameters[name]):
            raise _invalid(name, f"{name} must be a finite number.")
    if "logit_bias" in parameters and not all(
        map(math.isfinite, parameters["logit_bias"].values())
    ):
        raise _invalid("logit_bias", "logit_bias must hold finite numbers.")
    for i, tool in enumerate(parameters.get("tools", ())):
        if not tool["function"]["name"]:
            raise _missing(f"tools[{i}].function.name")
    if "tool_choice" in parameters:
        _check_tool_choice(parameters["tool_choice"])
    if "response_format" in parameters:
        _check_response_format(parameters["response_format"])
    if "reasoning" in parameters:
        _check_reasoning(parameters["reasoning"])
    if request.trace is not None and not request.trace.id:
        raise _missing("trace.id")


def _check_reasoning(reasoning: JsonObject) -> None:
    if "effort" in reasoning:
        _one_of(_EFFORTS, reasoning["effort"], "reasoning.effort")
    if "summary" in reasoning:
        _one_of(_SUMMARIES, reasoning["summary"], "reasoning.summary")


def _check_tool_choice(choice: str | JsonObject) -> None:
    if isinstance(choice, str):
        _one_of(_MODES, choice, "tool_choice")
    elif choice["type"] == "function":
        if not choice.get("function", {}).get("name"):
            raise _missing("tool_choice.function.name")
    else:
        where = "tool_choice.allowed_tools"
        allowed = choice.get("allowed_tools")
        if allowed is None:
            raise _missing(where)
        _one_of(_ALLOWED_MODES, allowed["mode"], f"{where}.mode")
        if not allowed["tools"]:
            raise _missing(f"{where}.tools")
        for i, tool in enumerate(allowed["tools"]):
            if not tool["function"]["name"]:
                raise _missing(f"{where}.tools[{i}].function.name")


def _check_response_format(form: JsonObject) -> None:
    _one_of(_FORMATS, form["type"], "response_format.type")
    if form["type"] != "json_schema":
        return
    if "json_schema" not in form:
        raise _missing("response_format.json_schema")
    if not form["json_schema"]["name"]:
        raise _missing("response_format.json_schema.name")


def _one_of(known: frozenset[str], value: Any, param: str) -> None:
    if not isinstance(value, str) or value not in known:
        raise _other(known, value, param)


def _other(known: frozenset[str], value: Any, param: str) -> GatewayError:
    if not value:
        return _missing(param)
    return _invalid(param, f"{param} must be one of {', '.join(sorted(known))}.")


def _missing(param: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_MISSING_REQUIRED_PARAMETER, f"{param} is required.", param=param
    )


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(Reason.ERROR_REASON_INVALID_VALUE, message, param=param)
