"""Conversion of captured completions: from what is read back to the contract's messages."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.completions import Attempt, StoredCompletion
from maniac_core.domain.errors import code_of
from maniac_core.domain.ids import wire_of
from maniac_core.domain.readable import (
    Route,
    decoded,
    input_messages,
    readable_input,
    readable_route,
)
from maniac_core.rpc.boundary.paging import page_size
from maniac_core.rpc.chat.answer import message_to_proto, trace_to_proto, usage_to_proto
from maniac_core.storage.stores.completions import CompletionDetail

_decode_choices = msgspec.json.Decoder(list[dict[str, Any]]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_STATUSES = dict(chat_pb2.CompletionStatus.items())
_USAGE_SOURCES = dict(chat_pb2.UsageSource.items())


def status_to_proto(status: str) -> chat_pb2.CompletionStatus.ValueType:
    """Return the contract's form of a status; unspecified for one that a later version wrote."""
    return _STATUSES.get(
        f"COMPLETION_STATUS_{status.upper()}", chat_pb2.COMPLETION_STATUS_UNSPECIFIED
    )


def stored_to_proto(stored: StoredCompletion) -> chat_pb2.StoredChatCompletion:
    """Return the contract's form of a captured completion."""
    choices = _decode_choices(stored.output) if stored.output else []
    if stored.status == "failed" and not choices:
        choices = [{"index": 0, "message": {"role": "assistant"}, "finish_reason": "error"}]
    return chat_pb2.StoredChatCompletion(
        completion=chat_pb2.ChatCompletion(
            id=stored.id,
            create_time=Timestamp(seconds=stored.created),
            model=stored.model or "",
            provider=stored.provider or "",
            container=stored.container_label or "",
            choices=[
                chat_pb2.Choice(
                    index=choice.get("index") or 0,
                    message=message_to_proto(choice["message"]),
                    finish_reason=choice.get("finish_reason") or "",
                )
                for choice in choices
            ],
            usage=usage_to_proto(stored.usage) if stored.usage_source != "none" else None,
        ),
        model_id=stored.model_id or "",
        spend_nano_usd=stored.spend_nano_usd,
        tags=stored.tags,
        metadata_json=stored.metadata or b"",
        trace=trace_to_proto(stored.trace) if stored.trace is not None else None,
        status=status_to_proto(stored.status),
        usage_source=_usage_source(stored.usage_source),
        time_to_first_token_us=stored.time_to_first_token_us,
        latency_us=stored.latency_us,
        error=_error(stored) if stored.error_reason else None,
        replay_of=stored.replay_of or "",
        unreadable=stored.unreadable,
        wire="chat" if stored.status == "registered" else wire_of(stored.id),
    )


def messages_to_proto(
    stored: CompletionDetail, request: chat_pb2.ListChatCompletionMessagesRequest
) -> chat_pb2.ListChatCompletionMessagesResponse:
    """Return a page of the messages of a request; an unknown position gives an empty one.

    Raises:
        GatewayError: VALIDATION_ERROR for a size out of range.
    """
    limit = page_size(request.page_size)
    body = readable_input(stored.input)
    messages = [] if body is None else input_messages(body)
    found = [
        chat_pb2.StoredChatMessage(
            id=f"{stored.completion.id}-{position}", message=message_to_proto(message)
        )
        for position, message in enumerate(messages)
    ]
    if request.descending:
        found.reverse()
    start = 0
    if request.page_token:
        ids = [message.id for message in found]
        start = ids.index(request.page_token) + 1 if request.page_token in ids else len(found)
    page = found[start : start + limit]
    return chat_pb2.ListChatCompletionMessagesResponse(
        messages=page, next_page_token=page[-1].id if start + limit < len(found) else ""
    )


def _usage_source(source: str) -> chat_pb2.UsageSource.ValueType:
    return _USAGE_SOURCES.get(f"USAGE_SOURCE_{source.upper()}", chat_pb2.USAGE_SOURCE_UNSPECIFIED)


def _error(stored: StoredCompletion) -> chat_pb2.CompletionError:
    reason = stored.error_reason or ""
    return chat_pb2.CompletionError(
        reason=reason, code=code_of(reason), message=stored.error_message or ""
    )


def detail_to_proto(detail: CompletionDetail) -> chat_pb2.ExplainChatCompletionResponse:
    """Return the contract's form of how a completion came about."""
    route = readable_route(detail.route) if detail.route else Route()
    members = decoded(_members, detail.input) if detail.input else {}
    parameters = b""
    if members:
        members.pop("messages", None)
        parameters = _encode(members)
    unreadable = [name for name in detail.completion.unreadable if name == "usage"]
    unreadable += ["parameters"] if members is None else []
    unreadable += ["route"] if route is None else []
    route = route or Route()
    # Its answer is not shown.
    stored = stored_to_proto(msgspec.structs.replace(detail.completion, output=None))
    completion = stored.completion
    return chat_pb2.ExplainChatCompletionResponse(
        id=detail.completion.id,
        requested_model=detail.requested_model,
        candidates=route.candidates,
        parameters_json=parameters,
        dropped_params=route.dropped,
        attempts=[_attempt_to_proto(attempt) for attempt in detail.attempts],
        prices_json=b"" if route.prices is None else _encode(route.prices),
        status=stored.status,
        usage_source=stored.usage_source,
        model=completion.model,
        provider=completion.provider,
        container=completion.container,
        error_reason=detail.completion.error_reason or "",
        error_message=detail.completion.error_message or "",
        create_time=completion.create_time,
        request_id=detail.request_id,
        usage=completion.usage if completion.HasField("usage") else None,
        spend_nano_usd=detail.completion.spend_nano_usd,
        time_to_first_token_us=detail.completion.time_to_first_token_us,
        latency_us=stored.latency_us,
        streamed=detail.streamed,
        stream_options_json=b"" if route.stream_options is None else _encode(route.stream_options),
        headers=route.headers,
        container_added=None
        if route.added is None
        else chat_pb2.ContainerAddition(
            messages=route.added.messages, parameters=route.added.parameters
        ),
        replay_of=stored.replay_of,
        unreadable=unreadable,
        wire=route.wire,
        native_request_json=bytes(route.native_request),
        native_answer=route.native_answer or route.native_events or "",
    )


def _attempt_to_proto(attempt: Attempt) -> chat_pb2.Attempt:
    return chat_pb2.Attempt(
        number=_small(attempt.number),
        provider=attempt.provider,
        model=attempt.model,
        start_time=Timestamp(
            seconds=attempt.started_us // 1_000_000, nanos=attempt.started_us % 1_000_000 * 1000
        ),
        outcome=attempt.outcome,
        http_status=_small(attempt.http_status or 0),
        error_reason=attempt.error_reason or "",
        error_message=attempt.error_message or "",
        time_to_first_token_us=attempt.time_to_first_token_us,
        latency_us=attempt.latency_us,
        usage=usage_to_proto(attempt.usage) if attempt.usage is not None else None,
        spend_nano_usd=attempt.spend_nano_usd,
    )


def _small(number: int) -> int:
    """Return a number of 32 bits; 0 for any other."""
    return number if -(1 << 31) <= number < 1 << 31 else 0
