"""How a completion came about: from the contract's message to JSON."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from maniac_gateway.v1 import chat_pb2

from maniac_edge.convert.completions import STATUS, USAGE_SOURCE, usage_to_json
from maniac_edge.convert.containers import LAST_SECOND
from maniac_edge.errors import TABLE
from maniac_edge.schemas import explanations as schema

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def explanation_to_json(explained: chat_pb2.ExplainChatCompletionResponse) -> schema.Explanation:
    """Return an explanation."""
    return schema.Explanation(
        id=explained.id,
        created=explained.create_time.seconds,
        request_id=explained.request_id,
        status=STATUS.get(explained.status),
        error_code=_code(explained.error_reason),
        error_message=explained.error_message or None,
        replay_of=explained.replay_of or None,
        stream=explained.streamed,
        stream_options=_object_or_none(explained.stream_options_json),
        headers=dict(explained.headers),
        container_added=_added(explained),
        requested_model=explained.requested_model,
        candidates=list(explained.candidates),
        model=explained.model or None,
        provider=explained.provider or None,
        container=explained.container or None,
        parameters=_object_or_none(explained.parameters_json),
        dropped_params=list(explained.dropped_params),
        attempts=[_attempt(attempt) for attempt in explained.attempts],
        prices=_object_or_none(explained.prices_json),
        usage=usage_to_json(explained.usage) if explained.HasField("usage") else None,
        usage_source=USAGE_SOURCE.get(explained.usage_source),
        spend=_spend(explained),
        time_to_first_token_ms=_first_token_ms(explained),
        latency_ms=explained.latency_us / 1000,
        unreadable=list(explained.unreadable),
        wire=explained.wire or "chat",
        native_request=_object_or_none(explained.native_request_json),
        native_answer=explained.native_answer or None,
    )


def _object_or_none(data: bytes) -> dict[str, msgspec.Raw] | None:
    return _as_object(data) if data else None


def _added(explained: chat_pb2.ExplainChatCompletionResponse) -> schema.ContainerAddition | None:
    if not explained.HasField("container_added"):
        return None
    added = explained.container_added
    return schema.ContainerAddition(list(added.messages), list(added.parameters))


def _attempt(attempt: chat_pb2.Attempt) -> schema.Attempt:
    code = _code(attempt.error_reason)
    return schema.Attempt(
        number=attempt.number,
        provider=attempt.provider,
        model=attempt.model,
        started_at=_iso(attempt),
        outcome=attempt.outcome,
        http_status=attempt.http_status or None,
        error=schema.AttemptError(code, attempt.error_message or None) if code else None,
        time_to_first_token_ms=_first_token_ms(attempt),
        latency_ms=attempt.latency_us / 1000,
        usage=usage_to_json(attempt.usage) if attempt.HasField("usage") else None,
        spend=_spend(attempt),
    )


def _iso(attempt: chat_pb2.Attempt) -> str:
    moment = attempt.start_time
    seconds = min(max(moment.seconds, 0), LAST_SECOND)
    started = datetime.fromtimestamp(seconds, UTC).replace(microsecond=moment.nanos // 1000)
    return started.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _code(reason: str) -> str | None:
    row = TABLE.get(reason)
    return row.code if row else None


def _spend(message: chat_pb2.Attempt | chat_pb2.ExplainChatCompletionResponse) -> float | None:
    return message.spend_nano_usd / 1e9 if message.HasField("spend_nano_usd") else None


def _first_token_ms(
    message: chat_pb2.Attempt | chat_pb2.ExplainChatCompletionResponse,
) -> float | None:
    has_any = message.HasField("time_to_first_token_us")
    return message.time_to_first_token_us / 1000 if has_any else None
