"""Token counts on OpenAI's wire, in the variants of those who speak it, as buckets that do not overlap.

`prompt_tokens` includes cached tokens everywhere. `completion_tokens` includes reasoning, except at xAI, which adds
it on top; the total tells. Cost: OpenRouter's `cost` in USD (with a key of one's own, the provider's bill comes on
top of it), Perplexity's `cost.total_cost`, xAI's `cost_in_usd_ticks` of 1e-10 USD.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import Usage
from maniac_core.providers.translation.counts import amount_usd, service_tier_of, token_count
from maniac_core.providers.translation.foreign_json import NOT_JSON, loose_object


class _Details(msgspec.Struct):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None
    reasoning_tokens: Any = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Any = None
    """DeepSeek."""
    cached_tokens: Any = None
    """Moonshot."""
    reasoning_tokens: Any = None
    """Perplexity, Modal."""
    cost: Any = None
    cost_details: Any = None
    is_byok: Any = None
    cost_in_usd_ticks: Any = None


class _PlainUsage(_WireUsage):
    """The same from servers whose details are objects, which is nearly all of them."""

    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_PLAIN = msgspec.json.Decoder(_PlainUsage)
_NOTHING = _Details()
_TICKS_PER_USD = 10_000_000_000


def usage_of(raw: bytes | msgspec.Raw, service_tier: Any = None) -> Usage | None:
    """Return what a `usage` value says; None when it says nothing, or nothing that makes sense.

    A prompt or an answer of 0 tokens is one that was not counted. `service_tier` is what the answer beside it says.
    """
    if raw == b"null":
        return None
    wire: _WireUsage
    try:
        wire = _PLAIN.decode(raw)
    except NOT_JSON:
        # A count that cannot be read is estimated; it must not cost the caller the answer.
        given = loose_object(raw)
        if not given:
            return None
        wire = msgspec.convert(given, _WireUsage)
    prompt, completion = token_count(wire.prompt_tokens), token_count(wire.completion_tokens)
    total = token_count(wire.total_tokens) or 0
    # Some servers give the total and one of its parts only.
    if completion is None:
        completion = max(total - prompt, 0) if prompt is not None else 0
    if prompt is None:
        prompt = max(total - completion, 0) if completion else 0
    cost = _cost_nano_usd(wire)
    if prompt + completion == 0 and not cost:
        # Placeholder on early chunks.
        return None
    inputs, outputs = _details(wire.prompt_tokens_details), _details(wire.completion_tokens_details)
    cached = token_count(inputs.cached_tokens)
    if cached is None:
        cached = token_count(wire.prompt_cache_hit_tokens) or token_count(wire.cached_tokens) or 0
    cache_read = min(cached, prompt)
    cache_write = min(token_count(inputs.cache_write_tokens) or 0, prompt - cache_read)
    reasoning = token_count(outputs.reasoning_tokens)
    if reasoning is None:
        reasoning = token_count(wire.reasoning_tokens) or 0
    if not completion:
        output = reasoning = 0
    elif reasoning > completion or (reasoning and total == prompt + completion + reasoning):
        output = completion
    else:
        output = completion - reasoning
    input_tokens = prompt - cache_read - cache_write
    return Usage(
        input_tokens=input_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        output_tokens=output,
        reasoning_tokens=reasoning,
        input_audio_tokens=_part(inputs.audio_tokens, input_tokens),
        output_audio_tokens=_part(outputs.audio_tokens, output),
        cost_nano_usd=cost,
        service_tier=service_tier_of(service_tier),
    )


def _details(value: Any) -> _Details:
    if value.__class__ is _Details:
        return value
    return msgspec.convert(value, _Details) if isinstance(value, dict) else _NOTHING


def _part(value: Any, whole: int) -> int | None:
    tokens = token_count(value)
    return None if tokens is None else min(tokens, whole)


def _cost_nano_usd(wire: _WireUsage) -> int | None:
    ticks = wire.cost_in_usd_ticks
    if ticks.__class__ is int and amount_usd(ticks // _TICKS_PER_USD) is not None:
        return (ticks + 5) // 10
    cost = wire.cost.get("total_cost") if isinstance(wire.cost, dict) else wire.cost
    usd = amount_usd(cost)
    if usd is None:
        return None
    if wire.is_byok is True and isinstance(wire.cost_details, dict):
        usd += amount_usd(wire.cost_details.get("upstream_inference_cost")) or 0.0
    return round(usd * 1e9)
