"""What whole and streamed answers of Anthropic share: usage, finish reasons, reasoning details; and the whole ones."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Block, Choice, Ending, JsonObject, Usage
from maniac_core.providers.anthropic.messages import REASONING_FORMAT
from maniac_core.providers.anthropic.request import JSON_TOOL
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import error_of_json, stream_failure, unreadable_failure
from maniac_core.providers.openai.wire import id_of, new_call_id
from maniac_core.providers.translation.blocks import in_order
from maniac_core.providers.translation.counts import token_count
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    check_calls,
    convert,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
"""The counts of a usage that stand by themselves."""


class _WireAnswer(msgspec.Struct):
    type: Any = None
    content: list[JsonObject] | None = None
    model: Any = None
    stop_reason: str | None = None
    stop_sequence: Any = None
    stop_details: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None


class _WireBill(msgspec.Struct):
    """The usage in an answer, whatever else it holds."""

    usage: msgspec.Raw = msgspec.Raw(b"null")


class TextBlock(msgspec.Struct):
    """Text."""

    text: str | None = None


class ThinkingBlock(msgspec.Struct):
    """Readable thinking."""

    thinking: str | None = None
    signature: str | None = None


class RedactedBlock(msgspec.Struct):
    """Thinking that only the provider can read."""

    data: str | None = None


class CallBlock(msgspec.Struct):
    """A call of a tool."""

    id: str | int | None = None
    name: str | None = None
    input: Any = None


_ANSWER = msgspec.json.Decoder(_WireAnswer)
_BILL = msgspec.json.Decoder(_WireBill)


def decode_answer(body: bytes) -> Answer:
    """Decode a whole answer.

    Raises:
        UpstreamFailure: the body is not an answer, or is an error inside a 200. It carries the usage beside it.
    """
    try:
        wire = decode(_ANSWER, body)
    except msgspec.ValidationError as err:
        if is_other_than_object(err):
            raise error_of_json(body) or unreadable_failure(body) from None
        raise error_of_json(body) or _billed(malformed_failure(err), body) from None
    except NOT_JSON:
        raise unreadable_failure(body) from None
    if wire.error:
        raise stream_failure(wire.error)
    if wire.content is None:
        raise error_of_json(body) or unreadable_failure(body)
    try:
        message, blocks = _message(wire.content)
        has_calls = "tool_calls" in message
    except UpstreamFailure as failure:
        raise _billed(failure, body) from None
    refusal = refusal_of(wire.stop_details)
    if refusal is not None:
        message["refusal"] = refusal
    choice = Choice(
        index=0,
        message=message,
        finish_reason=finish_of(wire.stop_reason, has_calls=has_calls),
        ending=ending_of(wire.stop_reason, wire.stop_sequence),
        blocks=blocks,
    )
    return Answer(
        choices=[choice],
        usage=usage_of(loose_object(wire.usage)),
        upstream_model=serving_model(wire.content, wire.model),
    )


def _billed(failure: UpstreamFailure, body: bytes) -> UpstreamFailure:
    """Add what the provider counted to the failure of its answer: it may be charged all the same."""
    with contextlib.suppress(*NOT_JSON):
        failure.usage = usage_of(loose_object(decode(_BILL, body).usage))
    return failure


def finish_of(stop_reason: str | None, *, has_calls: bool) -> str:
    """Return the finish reason. A call of the JSON tool is content, so an answer of only that ends with stop."""
    if stop_reason is None:
        return "tool_calls" if has_calls else "stop"
    finish = _FINISH.get(stop_reason, "stop")
    return "stop" if finish == "tool_calls" and not has_calls else finish


def ending_of(stop_reason: str | None, stop_sequence: Any) -> Ending | None:
    """Return why the answer ended, in the provider's words."""
    if stop_reason is None:
        return None
    sequence = stop_sequence if isinstance(stop_sequence, str) else None
    return Ending(reason=stop_reason, stop_sequence=sequence)


def refusal_of(stop_details: Any) -> str | None:
    """Return the provider's words about a refusal."""
    words = stop_details.get("explanation") if isinstance(stop_details, dict) else None
    return words if isinstance(words, str) and words else None


def serving_model(content: list[JsonObject], named: Any) -> str | None:
    """Return the model that gave the answer: the one fallen back to at the provider, if it fell back."""
    model = named if isinstance(named, str) and named else None
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


def calls_in(content: list[JsonObject]) -> int:
    """Return the number of calls among blocks."""
    return sum(block.get("type") == "tool_use" for block in content)


def arguments_of(value: Any) -> str:
    """Return the input of a call as JSON text; some servers send it as text already."""
    if isinstance(value, str) and value.strip():
        return value
    return msgspec.json.encode(value or {}).decode()


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


def usage_of(wire: JsonObject) -> Usage | None:
    """Return the token counts in buckets that do not overlap; Anthropic's input excludes what concerns the cache.

    None: nothing was counted. An answer, or a prompt, of 0 tokens was not counted either.
    """
    counted = _whole(wire)
    written = token_count(counted.get("cache_creation_input_tokens"))
    split = _object(counted.get("cache_creation"))
    written_1h = token_count(split.get("ephemeral_1h_input_tokens")) or 0
    if written is None:
        written = written_1h + (token_count(split.get("ephemeral_5m_input_tokens")) or 0)
    written_1h = min(written_1h, written)
    cache_read = token_count(counted.get("cache_read_input_tokens")) or 0
    input_tokens = token_count(counted.get("input_tokens"))
    if input_tokens is None:
        # The cached part alone is not the prompt.
        input_tokens = cache_read = written = written_1h = 0
    output = token_count(counted.get("output_tokens")) or 0
    details = _object(wire.get("output_tokens_details"))
    thinking = min(token_count(details.get("thinking_tokens")) or 0, output)
    usage = Usage(
        input_tokens=input_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=written - written_1h,
        cache_write_1h_tokens=written_1h,
        output_tokens=output - thinking,
        reasoning_tokens=thinking,
    )
    return usage if usage.total_tokens else None


def has_output(wire: JsonObject) -> bool:
    """Say whether the generated tokens are counted."""
    return token_count(wire.get("output_tokens")) is not None


def _whole(wire: JsonObject) -> JsonObject:
    """Return the counts of all model runs: those of a compaction are not in the totals beside them."""
    runs = wire.get("iterations")
    own = [
        run
        for run in (runs if isinstance(runs, list) else ())
        if isinstance(run, dict) and run.get("type") in ("message", "compaction")
    ]
    if not any(run["type"] == "compaction" for run in own):
        return wire
    total: JsonObject = {
        name: sum(token_count(run.get(name)) or 0 for run in own) for name in COUNTS
    }
    splits = [_object(run.get("cache_creation")) for run in own]
    written = [token_count(split.get("ephemeral_1h_input_tokens")) or 0 for split in splits]
    total["cache_creation"] = {"ephemeral_1h_input_tokens": sum(written)}
    return total


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _message(content: list[JsonObject]) -> tuple[JsonObject, tuple[Block, ...]]:
    """Return the message, and the order of its parts. Blocks of the provider's own tools are left out."""
    order: list[Block] = []
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[JsonObject] = []
    calls: list[JsonObject] = []
    check_calls(calls_in(content), "content")
    for position, block in enumerate(content):
        where = f"content[{position}]"
        match block.get("type"):
            case "text":
                texts.append(convert(block, TextBlock, where).text or "")
                order.append(("text", len(texts[-1])))
            case "thinking":
                thinking = convert(block, ThinkingBlock, where)
                thought = thinking.thinking or ""
                thoughts.append(thought)
                order.append(("reasoning", len(thought)))
                signature = thinking.signature or None
                details.append(text_detail(len(details), text=thought, signature=signature))
            case "redacted_thinking":
                redacted = convert(block, RedactedBlock, where)
                details.append(redacted_detail(len(details), redacted.data or ""))
            case "tool_use":
                call = convert(block, CallBlock, where)
                arguments = arguments_of(call.input)
                if call.name == JSON_TOOL:
                    texts.append(arguments)
                    order.append(("text", len(arguments)))
                    continue
                order.append(("tool_call", 1))
                function = {"name": call.name or "", "arguments": arguments}
                call_id = id_of(call.id) or new_call_id()
                calls.append({"id": call_id, "type": "function", "function": function})
    text = "".join(texts)
    message: JsonObject = {"role": "assistant", "content": text or None}
    if any(thoughts):
        message["reasoning"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message, in_order(order)
