"""What whole and streamed answers of Responses share: status, usage, failures; and the whole ones."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from maniac_core.domain.chat import Answer, Block, BlockKind, ChoiceDelta, Ending, Usage
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import error_of_json, stream_failure, unreadable_failure
from maniac_core.providers.openai import usage as chat_usage
from maniac_core.providers.openai_responses.output import OutputReader
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.translation.blocks import in_order
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)

_NULL = msgspec.Raw(b"null")
# The same counts by the names they have on chat.
_COUNTS = {
    "input_tokens": "prompt_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens": "completion_tokens",
    "output_tokens_details": "completion_tokens_details",
}
_encode = msgspec.json.Encoder().encode


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class WireResponse(msgspec.Struct):
    """A response, also inside an event."""

    status: str | None = None
    output: list[dict[str, Any]] | None = None
    model: Any = None
    service_tier: Any = None
    usage: msgspec.Raw = _NULL
    error: Any = None
    incomplete_details: _Incomplete | None = None


class _WireBill(msgspec.Struct):
    """The usage in an answer, whatever else it holds."""

    usage: msgspec.Raw = _NULL


RESPONSE = msgspec.json.Decoder(WireResponse)
_BILL = msgspec.json.Decoder(_WireBill)


def decode_answer(body: bytes) -> Answer:
    """Decode a whole answer.

    Raises:
        UpstreamFailure: the body is not an answer, or is an error inside a 200. It carries the usage beside it.
    """
    try:
        wire = decode(RESPONSE, body)
    except msgspec.ValidationError as err:
        if is_other_than_object(err):
            raise error_of_json(body) or unreadable_failure(body) from None
        raise error_of_json(body) or billed(malformed_failure(err), body) from None
    except NOT_JSON:
        raise unreadable_failure(body) from None
    if failure := failure_of(wire):
        raise failure
    if wire.output is None:
        raise error_of_json(body) or unreadable_failure(body)
    reader, whole = OutputReader(), Accumulator()
    order: list[Block] = []
    try:
        for index, item in enumerate(wire.output):
            for delta in reader.end(index, item):
                whole.add_delta(delta)
                _note(order, delta)
    except UpstreamFailure as failure:
        raise billed(failure, body) from None
    whole.add_delta(last_delta(wire, reader))
    choice = msgspec.structs.replace(whole.choices()[0], blocks=in_order(order))
    return Answer(choices=[choice], usage=usage_of(wire), upstream_model=model_of(wire))


def last_delta(wire: WireResponse, reader: OutputReader) -> ChoiceDelta:
    """Return the step that ends an answer."""
    reason = wire.incomplete_details.reason if wire.incomplete_details is not None else None
    if wire.status != "incomplete":
        finish = "tool_calls" if reader.calls else "stop"
    else:
        finish = "content_filter" if reason == "content_filter" else "length"
    return ChoiceDelta(
        finish_reason=finish, ending=Ending(reason=reason or wire.status or "completed")
    )


def failure_of(wire: WireResponse) -> UpstreamFailure | None:
    """Return why a response is no answer; None if it is one, or a part of one."""
    failure = None
    if wire.error:
        failure = stream_failure(wire.error)
    elif wire.status not in (None, "completed", "incomplete"):
        failure = UpstreamFailure(
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            f"The provider's response is not complete, but {_shown(wire.status)}.",
            retry=True,
            fall_back=True,
            http_status=200,
        )
    if failure is not None:
        failure.usage = usage_of(wire)
        failure.may_be_billed = failure.usage is not None
    return failure


def billed(failure: UpstreamFailure, body: bytes) -> UpstreamFailure:
    """Add what the provider counted to the failure of its answer: it may be charged all the same."""
    with contextlib.suppress(*NOT_JSON):
        failure.usage = usage_of(WireResponse(usage=decode(_BILL, body).usage))
        failure.may_be_billed |= failure.usage is not None
    return failure


def usage_of(wire: WireResponse) -> Usage | None:
    """Return the token counts in buckets that do not overlap; None: nothing was counted."""
    given = loose_object(wire.usage)
    if not given:
        return None
    named = {_COUNTS.get(name, name): value for name, value in given.items()}
    with contextlib.suppress(*NOT_JSON, OverflowError):
        return chat_usage.usage_of(_encode(named), wire.service_tier)
    return None


def model_of(wire: WireResponse) -> str | None:
    """Return the model as the provider names it."""
    return wire.model if isinstance(wire.model, str) and wire.model else None


def _note(order: list[Block], delta: ChoiceDelta) -> None:
    """Add a step to the order of the parts."""
    kind: BlockKind
    if delta.content:
        kind, count = "text", len(delta.content)
    elif delta.reasoning:
        kind, count = "reasoning", len(delta.reasoning)
    elif delta.tool_calls and delta.tool_calls[0].name:
        kind, count = "tool_call", 1
    else:
        return
    if order and order[-1][0] == kind:
        count += order.pop()[1]
    order.append((kind, count))


def _shown(status: str | None) -> str:
    """Return a status as a sentence can hold it."""
    known = ("failed", "cancelled", "in_progress", "queued")
    return status.replace("_", " ") if status in known else "something else"
