"""The Response object: what its request said, and what has come of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from maniac_edge.wires.canonical import Usage

_Object = dict[str, Any]
_decode = msgspec.json.Decoder().decode
# What the answer repeats of its request, with what holds where the request says nothing.
_REPEATED: _Object = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "background": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def repeated(raw: Mapping[str, msgspec.Raw]) -> _Object:
    """Return what the answer repeats of a request."""
    values = {
        name: default if name not in raw else _given(raw[name], default)
        for name, default in _REPEATED.items()
    }
    # Clients read what is in them without asking whether it is there.
    for name in ("text", "reasoning"):
        values[name] = {**_REPEATED[name], **values[name]}
    return values


def _given(raw: msgspec.Raw, default: Any) -> Any:
    value = _decode(raw)
    return default if value is None else value


def response_object(
    echo: _Object,
    *,
    response_id: str,
    created: int,
    model: str,
    provider: str | None,
    status: str,
    output: list[_Object],
    usage: Usage | None = None,
    incomplete: str | None = None,
    error: _Object | None = None,
) -> _Object:
    """Return a response. `echo`: from `repeated`. `incomplete`: why it ended early. `error`: code and message."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "completed_at": created if status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "model": model,
        "provider": provider,
        "output": output,
        "usage": usage_object(usage) if usage is not None else None,
        **echo,
    }


def usage_object(usage: Usage) -> _Object:
    """Return token counts."""
    prompt, generated = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": prompt.cached_tokens,
            "cache_write_tokens": prompt.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": generated.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
