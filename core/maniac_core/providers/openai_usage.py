"""Token counts on OpenAI's wire, in the variants of those who speak it, as buckets that do not overlap.

`prompt_tokens` includes cached tokens everywhere. `completion_tokens` includes reasoning, except at xAI, which adds
it on top; the total tells. Cost: OpenRouter's `cost` in USD (with a key of one's own, the provider's bill comes on
top of it), Perplexity's `cost.total_cost`, xAI's `cost_in_usd_ticks` of 1e-10 USD.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from maniac_core.domain.chat import Usage
from maniac_core.providers.errors import NOT_JSON


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek."""
    cached_tokens: int | None = None
    """Moonshot."""
    reasoning_tokens: int | None = None
    """Perplexity, Modal."""
    cost: Any = None
    cost_details: Any = None
    is_byok: bool | None = None
    cost_in_usd_ticks: int | None = None


# Not strict: some count in floats or in text.
_DECODER = msgspec.json.Decoder(_WireUsage, strict=False)
_NOTHING = _Details()
_STANDARD_TIERS = frozenset({"", "auto", "default", "standard"})


def usage_of(raw: bytes | msgspec.Raw, service_tier: str | None = None) -> Usage | None:
    """Return what a `usage` value says; None when it says nothing, or nothing that makes sense.

    `service_tier` is what the answer beside it says.
    """
    try:
        wire = _DECODER.decode(raw)
    except NOT_JSON:
        # `null` as well. A count that cannot be read is estimated; it must not cost the caller the answer.
        return None
    prompt = max(wire.prompt_tokens or 0, 0)
    total = max(wire.total_tokens or 0, 0)
    # Some servers give prompt and total only.
    completion = max(
        total - prompt if wire.completion_tokens is None else wire.completion_tokens, 0
    )
    if prompt + completion == 0:
        # Placeholder on early chunks.
        return None
    inputs = wire.prompt_tokens_details or _NOTHING
    outputs = wire.completion_tokens_details or _NOTHING
    cached = inputs.cached_tokens
    if cached is None:
        cached = wire.prompt_cache_hit_tokens or wire.cached_tokens or 0
    cache_read = min(max(cached, 0), prompt)
    cache_write = min(max(inputs.cache_write_tokens or 0, 0), prompt - cache_read)
    reasoning = outputs.reasoning_tokens
    if reasoning is None:
        reasoning = wire.reasoning_tokens
    reasoning = max(reasoning or 0, 0)
    if reasoning > completion or (reasoning and total == prompt + completion + reasoning):
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
        cost_nano_usd=_cost_nano_usd(wire),
        service_tier=None if (service_tier or "") in _STANDARD_TIERS else service_tier,
    )


def _part(tokens: int | None, whole: int) -> int | None:
    return None if tokens is None else min(max(tokens, 0), whole)


def _cost_nano_usd(wire: _WireUsage) -> int | None:
    if wire.cost_in_usd_ticks is not None and wire.cost_in_usd_ticks >= 0:
        return (wire.cost_in_usd_ticks + 5) // 10
    cost = wire.cost.get("total_cost") if isinstance(wire.cost, dict) else wire.cost
    usd = _usd(cost)
    if usd is None:
        return None
    if wire.is_byok and isinstance(wire.cost_details, dict):
        usd += _usd(wire.cost_details.get("upstream_inference_cost")) or 0.0
    return round(usd * 1e9)


def _usd(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
