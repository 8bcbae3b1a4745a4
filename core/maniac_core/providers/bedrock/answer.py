"""What whole and streamed answers of Bedrock's Converse API share: usage, stop reasons; and the whole ones."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Block, Choice, Ending, JsonObject, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.anthropic.answer import (
    arguments_of,
    redacted_detail,
    text_detail,
)
from maniac_core.providers.anthropic.request import JSON_TOOL
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.bedrock.messages import REASONING_FORMAT
from maniac_core.providers.errors import error_of_json, unreadable_failure
from maniac_core.providers.openai.wire import new_call_id
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
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# The model produced something that is not an answer.
_BROKEN = frozenset({"malformed_model_output", "malformed_tool_use"})


class ReasoningText(msgspec.Struct):
    """Readable thinking."""

    text: str | None = None
    signature: str | None = None


class Reasoning(msgspec.Struct, rename="camel"):
    """A block of thinking."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None


class ToolUse(msgspec.Struct, rename="camel"):
    """A call of a tool."""

    tool_use_id: str | None = None
    name: str | None = None
    input: Any = None


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: Reasoning | None = None


class _Message(msgspec.Struct):
    content: list[JsonObject] | None = None


class _Output(msgspec.Struct):
    message: _Message | None = None


class _WireAnswer(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _WireBill(msgspec.Struct):
    """The usage in an answer, whatever else it holds."""

    usage: msgspec.Raw = msgspec.Raw(b"null")


_ANSWER = msgspec.json.Decoder(_WireAnswer)
_BILL = msgspec.json.Decoder(_WireBill)


def decode_answer(body: bytes, reasoning_format: str) -> Answer:
    """Decode a whole answer. `reasoning_format`: of the thinking that it holds.

    Raises:
        UpstreamFailure: the body is not an answer, or the model produced none. It carries the usage beside it.
    """
    try:
        wire = decode(_ANSWER, body)
    except msgspec.ValidationError as err:
        if is_other_than_object(err):
            raise unreadable_failure(body) from None
        raise _billed(malformed_failure(err), body) from None
    except NOT_JSON:
        raise unreadable_failure(body) from None
    message = wire.output.message if wire.output is not None else None
    if message is None or message.content is None:
        raise error_of_json(body) or unreadable_failure(body)
    try:
        read, blocks = _message(message.content, reasoning_format)
        finish = finish_of(wire.stop_reason, has_calls="tool_calls" in read)
    except UpstreamFailure as failure:
        raise _billed(failure, body) from None
    choice = Choice(
        index=0,
        message=read,
        finish_reason=finish,
        ending=ending_of(wire.stop_reason),
        blocks=blocks,
    )
    return Answer(choices=[choice], usage=usage_of(loose_object(wire.usage)), upstream_model=None)


def finish_of(stop_reason: str | None, *, has_calls: bool) -> str:
    """Return the finish reason. A call of the JSON tool is content, so an answer of only that ends with stop.

    Raises:
        UpstreamFailure: the model produced something that is not an answer.
    """
    if stop_reason in _BROKEN:
        raise UpstreamFailure(
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            f"The model's answer was malformed ({stop_reason}).",
            retry=True,
            fall_back=True,
            http_status=200,
        )
    finish = _FINISH.get(stop_reason or "", "tool_calls" if has_calls else "stop")
    return "stop" if finish == "tool_calls" and not has_calls else finish


def ending_of(stop_reason: str | None) -> Ending | None:
    """Return why the answer ended, in the provider's words."""
    return Ending(reason=stop_reason) if stop_reason else None


def thought(
    index: int,
    reasoning_format: str,
    *,
    text: str | None = None,
    signature: str | None = None,
    is_first: bool = True,
) -> JsonObject:
    """Return a piece of a readable thinking block for `reasoning_details`."""
    detail = text_detail(index, text=text, signature=signature, is_first=is_first)
    return {**detail, "format": reasoning_format} if is_first else detail


def redacted(index: int, data: str) -> JsonObject:
    """Return a redacted thinking block for `reasoning_details`, which only Bedrock can read."""
    return {**redacted_detail(index, data), "format": REASONING_FORMAT}


def usage_of(wire: JsonObject) -> Usage | None:
    """Return the token counts in buckets that do not overlap; the input excludes what concerns the cache.

    None: nothing was counted.
    """
    input_tokens = token_count(wire.get("inputTokens"))
    written = token_count(wire.get("cacheWriteInputTokens")) or 0
    details = wire.get("cacheDetails")
    written_1h = sum(
        token_count(detail.get("inputTokens")) or 0
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("ttl") == "1h"
    )
    written_1h = min(written_1h, written)
    # The cached part alone is not the prompt.
    is_counted = input_tokens is not None
    usage = Usage(
        input_tokens=input_tokens or 0,
        cache_read_tokens=token_count(wire.get("cacheReadInputTokens")) or 0 if is_counted else 0,
        cache_write_tokens=written - written_1h if is_counted else 0,
        cache_write_1h_tokens=written_1h if is_counted else 0,
        output_tokens=token_count(wire.get("outputTokens")) or 0,
    )
    return usage if usage.total_tokens else None


def _billed(failure: UpstreamFailure, body: bytes) -> UpstreamFailure:
    """Add what the provider counted to the failure of its answer: it may be charged all the same."""
    with contextlib.suppress(*NOT_JSON):
        failure.usage = usage_of(loose_object(decode(_BILL, body).usage))
        failure.may_be_billed |= failure.usage is not None
    return failure


def _message(
    content: list[JsonObject], reasoning_format: str
) -> tuple[JsonObject, tuple[Block, ...]]:
    """Return the message, and the order of its parts. Blocks of other kinds are left out."""
    order: list[Block] = []
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[JsonObject] = []
    calls: list[JsonObject] = []
    check_calls(sum("toolUse" in given for given in content), "output.message.content")
    for position, given in enumerate(content):
        block = convert(given, _Block, f"output.message.content[{position}]")
        if block.text is not None:
            texts.append(block.text)
            order.append(("text", len(block.text)))
        elif block.reasoning_content is not None:
            said = block.reasoning_content.reasoning_text
            if said is not None:
                text = said.text or ""
                thoughts.append(text)
                order.append(("reasoning", len(text)))
                details.append(
                    thought(
                        len(details), reasoning_format, text=text, signature=said.signature or None
                    )
                )
            elif data := block.reasoning_content.redacted_content:
                details.append(redacted(len(details), data))
        elif block.tool_use is not None:
            arguments = arguments_of(block.tool_use.input)
            if block.tool_use.name == JSON_TOOL:
                texts.append(arguments)
                order.append(("text", len(arguments)))
                continue
            order.append(("tool_call", 1))
            function = {"name": block.tool_use.name or "", "arguments": arguments}
            call_id = block.tool_use.tool_use_id or new_call_id()
            calls.append({"id": call_id, "type": "function", "function": function})
    message: JsonObject = {"role": "assistant", "content": "".join(texts) or None}
    if any(thoughts):
        message["reasoning"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message, in_order(order)
