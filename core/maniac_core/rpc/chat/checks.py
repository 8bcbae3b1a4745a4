"""Checks that the values of a chat request match the contract, for callers of the RPC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.chat import MAX_TAGS
from maniac_core.domain.errors import GatewayError, Reason

_ROLES = frozenset({"system", "user", "assistant", "developer", "tool"})
_PARTS = frozenset({"text", "image_url", "file", "input_audio"})
_MODES = frozenset({"none", "auto", "required"})
_ALLOWED_MODES = frozenset({"auto", "required"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})
_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})
_SUMMARIES = frozenset({"auto", "concise", "detailed"})
_LONGEST = {"messages": 10_000, "tools": 1_000, "tags": MAX_TAGS, "models": 256}
_MAX_PARTS = 10_000
"""Of all messages together."""
_NUMBERS = frozenset({"frequency_penalty", "presence_penalty", "temperature", "top_p"})


def check_params(given: Mapping[str, Any]) -> None:
    """Check what the types of the messages leave open; `given` has the fields that are set, by name.

    Raises:
        GatewayError: INVALID_VALUE or MISSING_REQUIRED_PARAMETER, naming the field.
    """
    if "messages" not in given:
        raise _invalid("messages", "messages must not be empty.")
    for name, longest in _LONGEST.items():
        if name in given and len(given[name]) > longest:
            raise _invalid(name, f"{name} must not hold more than {longest} items.")
    parts = 0
    for i, message in enumerate(given["messages"]):
        _one_of(_ROLES, message.role, "messages", i, "role")
        if message.HasField("parts"):
            parts += len(message.parts.parts)
            if parts > _MAX_PARTS:
                raise _invalid(
                    "messages", f"messages must not hold more than {_MAX_PARTS} content parts."
                )
            for j, part in enumerate(message.parts.parts):
                _one_of(_PARTS, part.type, "messages", i, "content", j, "type")
    for name in _NUMBERS.intersection(given):
        if not math.isfinite(given[name]):
            raise _invalid(name, f"{name} must be a finite number.")
    if "logit_bias" in given and not all(map(math.isfinite, given["logit_bias"].values())):
        raise _invalid("logit_bias", "logit_bias must hold finite numbers.")
    for i, tool in enumerate(given.get("tools", ())):
        if not tool.name:
            raise _missing(f"tools[{i}].function.name")
    if "tool_choice" in given:
        _check_tool_choice(given["tool_choice"])
    if "response_format" in given:
        _check_response_format(given["response_format"])
    if "reasoning" in given:
        _check_reasoning(given["reasoning"])


def _check_reasoning(reasoning: chat_pb2.Reasoning) -> None:
    if reasoning.HasField("effort"):
        _one_of(_EFFORTS, reasoning.effort, "reasoning", "effort")
    if reasoning.HasField("summary"):
        _one_of(_SUMMARIES, reasoning.summary, "reasoning", "summary")


def _check_tool_choice(choice: chat_pb2.ToolChoice) -> None:
    kind = choice.WhichOneof("choice")
    if kind == "allowed_tools":
        allowed = choice.allowed_tools
        _one_of(_ALLOWED_MODES, allowed.mode, "tool_choice", "allowed_tools", "mode")
        if not allowed.function_names:
            raise _missing("tool_choice.allowed_tools.tools")
        for i, name in enumerate(allowed.function_names):
            if not name:
                raise _missing(f"tool_choice.allowed_tools.tools[{i}].function.name")
    elif kind != "function_name":
        _one_of(_MODES, choice.mode, "tool_choice")
    elif not choice.function_name:
        raise _missing("tool_choice.function.name")


def _check_response_format(form: chat_pb2.ResponseFormat) -> None:
    _one_of(_FORMATS, form.type, "response_format", "type")
    if form.type != "json_schema":
        return
    if not form.HasField("json_schema"):
        raise _missing("response_format.json_schema")
    if not form.json_schema.name:
        raise _missing("response_format.json_schema.name")


def _one_of(known: frozenset[str], value: str, *path: str | int) -> None:
    if value in known:
        return
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
    if not value:
        raise _missing(param)
    raise _invalid(param, f"{param} must be one of {', '.join(sorted(known))}.")


def _missing(param: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_MISSING_REQUIRED_PARAMETER, f"{param} is required.", param=param
    )


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(Reason.ERROR_REASON_INVALID_VALUE, message, param=param)
