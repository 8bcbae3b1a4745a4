"""Map or reject OpenAI parameters that have no counterpart, in one place for every caller."""

from __future__ import annotations

from typing import Any

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import GatewayError, Reason

# Keys of the gateway and of long-gone clients: never forwarded, also when they hide among unknown keys.
_CONSUMED = frozenset(
    {"tags", "metadata", "trace", "store", "models", "model", "stream", "container", "container_id"}
)
_DROPPED = ("logprobs", "top_logprobs")
_INTEGERS = ("max_tokens", "max_completion_tokens", "seed")


def clean_parameters(parameters: JsonObject, *, reject: bool) -> tuple[JsonObject, list[str]]:
    """Return the parameters that may be forwarded, and the names of those that were dropped.

    `reject` is false for merged defaults of a container, where an unusable value is ignored.

    Raises:
        GatewayError: UNSUPPORTED_PARAMETER for n above 1.
    """
    cleaned = {key: value for key, value in parameters.items() if key not in _CONSUMED}
    n = cleaned.pop("n", None)
    if reject and n is not None and n != 1:
        raise GatewayError(
            Reason.ERROR_REASON_UNSUPPORTED_PARAMETER,
            f"n = {n} is not supported: only one choice can be generated.",
            param="n",
        )
    # `logprobs: false` asks for nothing, so nothing is dropped.
    dropped = [key for key in _DROPPED if cleaned.pop(key, None)]
    for key in () if reject else _INTEGERS:
        # Defaults are kept as they were given, and providers refuse 64.0 where they expect 64.
        value = cleaned.get(key)
        if isinstance(value, float) and value.is_integer():
            cleaned[key] = int(value)
    response_format = cleaned.get("response_format")
    if isinstance(response_format, dict) and isinstance(response_format.get("json_schema"), dict):
        schema = response_format["json_schema"]
        if "strict" in schema:
            schema = {key: value for key, value in schema.items() if key != "strict"}
            cleaned["response_format"] = {**response_format, "json_schema": schema}
    return cleaned, dropped


def clean_messages(messages: list[JsonObject]) -> tuple[list[JsonObject], list[str]]:
    """Return the messages without audio parts, and what was dropped."""
    if not any(_has_audio(message) for message in messages):
        return messages, []
    cleaned = [_without_audio(message) if _has_audio(message) else message for message in messages]
    return cleaned, ["input_audio"]


def _without_audio(message: JsonObject) -> JsonObject:
    parts = [part for part in message["content"] if part.get("type") != "input_audio"]
    return {**message, "content": parts or ""}


def _has_audio(message: JsonObject) -> bool:
    content: Any = message.get("content")
    return isinstance(content, list) and any(part.get("type") == "input_audio" for part in content)
