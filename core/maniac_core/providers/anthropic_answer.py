"""What whole and streamed answers of Anthropic share: usage, finish reasons, reasoning details; and the whole ones."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Choice, JsonObject, Usage
from maniac_core.providers.anthropic_messages import REASONING_FORMAT
from maniac_core.providers.anthropic_request import JSON_TOOL
from maniac_core.providers.errors import stream_failure, unreadable_failure

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _WireAnswer(msgspec.Struct):
    type: str | None = None
    content: list[JsonObject] | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_details: JsonObject | None = None
    usage: JsonObject | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_WireAnswer).decode


def decode_answer(body: bytes) -> Answer:
    """Decode a whole answer.

    Raises:
        UpstreamFailure: the body is no answer, or an error inside a 200.
    """
    try:
        wire = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise unreadable_failure(body) from None
    if wire.error:
        raise stream_failure(wire.error)
    if wire.content is None:
        raise unreadable_failure(body)
    message, has_calls = _message(wire.content)
    refusal = refusal_of(wire.stop_details)
    if refusal is not None:
        message["refusal"] = refusal
    choice = Choice(
        index=0, message=message, finish_reason=finish_of(wire.stop_reason, has_calls=has_calls)
    )
    usage = usage_of(wire.usage) if wire.usage else None
    return Answer(
        choices=[choice], usage=usage, upstream_model=serving_model(wire.content, wire.model)
    )


def finish_of(stop_reason: str | None, *, has_calls: bool) -> str:
    """Return the finish reason. A call of the JSON tool is content, so an answer of only that ends with stop."""
    if stop_reason is None:
        return "tool_calls" if has_calls else "stop"
    finish = _FINISH.get(stop_reason, "stop")
    return "stop" if finish == "tool_calls" and not has_calls else finish


def refusal_of(stop_details: JsonObject | None) -> str | None:
    """Return the provider's words about a refusal."""
    words = stop_details.get("explanation") if stop_details else None
    return words if isinstance(words, str) and words else None


def serving_model(content: list[JsonObject], model: str | None) -> str | None:
    """Return the model that gave the answer: the one fallen back to at the provider, if it fell back."""
    for block in content:
        if block.get("type") == "fallback":
            name = fallback_model(block)
            model = name or model
    return model


def fallback_model(block: JsonObject) -> str | None:
    """Return the model that a `fallback` block hands over to."""
    target = block.get("to")
    name = target.get("model") if isinstance(target, dict) else None
    return name if isinstance(name, str) else None


def text_detail(
    index: int, *, text: str | None = None, signature: str | None = None, is_first: bool = True
) -> JsonObject:
    """Return a piece of a readable thinking block for `reasoning_details`.

    Only the first piece of a block names the format: clients add up the texts of pieces, the name among them.
    """
    detail: JsonObject = {"type": "reasoning.text"}
    if text is not None:
        detail["text"] = text
    if signature is not None:
        detail["signature"] = signature
    if is_first:
        detail["format"] = REASONING_FORMAT
    return {**detail, "index": index}


def redacted_detail(index: int, data: str) -> JsonObject:
    """Return a redacted thinking block for `reasoning_details`."""
    return {
        "type": "reasoning.encrypted",
        "data": data,
        "format": REASONING_FORMAT,
        "index": index,
    }


def usage_of(wire: JsonObject) -> Usage:
    """Return the token counts in buckets that do not overlap; Anthropic's input excludes what concerns the cache."""
    counted = _whole(wire)
    written = _count(counted, "cache_creation_input_tokens")
    split = counted.get("cache_creation")
    written_1h = _count(split, "ephemeral_1h_input_tokens") if isinstance(split, dict) else 0
    if "cache_creation_input_tokens" not in counted and isinstance(split, dict):
        written = _count(split, "ephemeral_5m_input_tokens") + written_1h
    written_1h = min(written_1h, written)
    output = _count(counted, "output_tokens")
    details = wire.get("output_tokens_details")
    thinking = _count(details, "thinking_tokens") if isinstance(details, dict) else 0
    thinking = min(thinking, output)
    return Usage(
        input_tokens=_count(counted, "input_tokens"),
        cache_read_tokens=_count(counted, "cache_read_input_tokens"),
        cache_write_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
        output_tokens=output - thinking,
        reasoning_tokens=thinking,
    )


def _whole(wire: JsonObject) -> JsonObject:
    """Return the counts of all model runs: those of a compaction are not in the totals beside them."""
    runs = wire.get("iterations")
    if not isinstance(runs, list):
        return wire
    own = [
        run
        for run in runs
        if isinstance(run, dict) and run.get("type") in ("message", "compaction")
    ]
    if not any(run["type"] == "compaction" for run in own):
        return wire
    names = (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    )
    total: JsonObject = {name: sum(_count(run, name) for run in own) for name in names}
    splits = [run["cache_creation"] for run in own if isinstance(run.get("cache_creation"), dict)]
    total["cache_creation"] = {
        "ephemeral_1h_input_tokens": sum(
            _count(split, "ephemeral_1h_input_tokens") for split in splits
        )
    }
    return total


def _count(wire: JsonObject, name: str) -> int:
    value = wire.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _message(content: list[JsonObject]) -> tuple[JsonObject, bool]:
    """Return the message, and whether it calls tools. Blocks of the provider's own tools are left out."""
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[JsonObject] = []
    calls: list[JsonObject] = []
    for block in content:
        match block.get("type"):
            case "text":
                texts.append(block.get("text") or "")
            case "thinking":
                thought = block.get("thinking") or ""
                thoughts.append(thought)
                signature = block.get("signature") or None
                details.append(text_detail(len(details), text=thought, signature=signature))
            case "redacted_thinking":
                details.append(redacted_detail(len(details), block.get("data") or ""))
            case "tool_use":
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                if block.get("name") == JSON_TOOL:
                    texts.append(arguments)
                    continue
                function = {"name": block.get("name") or "", "arguments": arguments}
                calls.append(
                    {"id": block.get("id") or "", "type": "function", "function": function}
                )
    text = "".join(texts)
    message: JsonObject = {"role": "assistant", "content": text or None}
    if any(thoughts):
        message["reasoning"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message, bool(calls)
