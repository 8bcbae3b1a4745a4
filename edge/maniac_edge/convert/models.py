"""Models: from the contract's messages to JSON."""

from __future__ import annotations

from typing import Any

from maniac_gateway.v1 import models_pb2

from maniac_edge.schemas import models as schema

_FEMTO_DIGITS = 15


def model_to_json(model: models_pb2.Model) -> schema.Model:
    """Return one entry."""
    return schema.Model(
        id=model.id,
        slug=model.slug,
        provider=model.provider or None,
        created=model.create_time.seconds,
        owned_by=model.owned_by,
        display_name=model.display_name or None,
        context_window=_optional(model, "context_window"),
        max_output_tokens=_optional(model, "max_output_tokens"),
        input_modalities=list(model.input_modalities) or None,
        output_modalities=list(model.output_modalities) or None,
        pricing=_pricing(model.pricing),
        supported_parameters=list(model.supported_parameters),
        supported_apis=list(model.supported_apis),
    )


def _pricing(pricing: models_pb2.ModelPricing) -> schema.ModelPricing:
    def text(field: str) -> str | None:
        value = _optional(pricing, f"{field}_nano_usd_per_mtok")
        return None if value is None else _usd_per_token(value)

    def number(field: str) -> float | None:
        value = text(field)
        return None if value is None else float(value)

    request = _optional(pricing, "request_nano_usd")
    return schema.ModelPricing(
        # Clients insist on these two; an unknown price is an empty one, never 0.
        prompt=text("input") or "",
        completion=text("output") or "",
        input_cache_read=text("cache_read"),
        internal_reasoning=text("internal_reasoning"),
        request=None if request is None else request / 1e9,
        input=number("input"),
        output=number("output"),
        cache_read=number("cache_read"),
        cache_write=number("cache_write"),
    )


def _usd_per_token(nano_usd_per_mtok: int) -> str:
    """Return 1e-15 USD per token as decimal text, exactly."""
    digits = str(nano_usd_per_mtok).rjust(_FEMTO_DIGITS + 1, "0")
    whole, fraction = digits[:-_FEMTO_DIGITS], digits[-_FEMTO_DIGITS:].rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
