"""The list of models in OpenAI's form, and what OpenRouter and vLLM add to it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import msgspec

from maniac_core.providers.listing import (
    ABSENT,
    DiscoveredModel,
    ModelPage,
    Reader,
    count,
    text,
    words,
)
from maniac_core.providers.pricing.prices import Prices, femto_usd

# USD per token; a higher price is ignored.
_DEAREST = Decimal(1000)


class _List(msgspec.Struct):
    data: msgspec.Raw = ABSENT


class _Entry(msgspec.Struct):
    id: str
    name: msgspec.Raw = ABSENT
    owned_by: msgspec.Raw = ABSENT
    created: msgspec.Raw = ABSENT
    context_length: msgspec.Raw = ABSENT
    max_model_len: msgspec.Raw = ABSENT
    architecture: msgspec.Raw = ABSENT
    top_provider: msgspec.Raw = ABSENT
    supported_parameters: msgspec.Raw = ABSENT
    pricing: msgspec.Raw = ABSENT


class _Architecture(msgspec.Struct):
    input_modalities: msgspec.Raw = ABSENT
    output_modalities: msgspec.Raw = ABSENT


class _TopProvider(msgspec.Struct):
    max_completion_tokens: msgspec.Raw = ABSENT


_list = msgspec.json.Decoder(_List).decode
_entry = msgspec.json.Decoder(_Entry).decode
_architecture = msgspec.json.Decoder(_Architecture).decode
_top_provider = msgspec.json.Decoder(_TopProvider).decode
_pricing = msgspec.json.Decoder(dict[str, str | int | float | None]).decode


def read_openai_models(body: bytes) -> ModelPage:
    """Read a list; it has one page.

    Raises:
        ValueError: it is not a list of models.
    """
    reader = Reader()
    models = reader.models(_list(body).data, _model)
    return ModelPage(models=models, odd=tuple(reader.odd))


def _model(reader: Reader, raw: msgspec.Raw) -> DiscoveredModel:
    entry = _entry(raw)
    field = reader.field
    architecture = field("architecture", entry.architecture, _architecture) or _Architecture()
    top = field("top_provider", entry.top_provider, _top_provider) or _TopProvider()
    return DiscoveredModel(
        name=entry.id,
        display_name=field("name", entry.name, text),
        owned_by=field("owned_by", entry.owned_by, text),
        created=field("created", entry.created, count),
        context_window=field("context_length", entry.context_length, count)
        or field("max_model_len", entry.max_model_len, count),
        max_output_tokens=field("max_completion_tokens", top.max_completion_tokens, count),
        input_modalities=field("input_modalities", architecture.input_modalities, words) or (),
        output_modalities=field("output_modalities", architecture.output_modalities, words) or (),
        supported_parameters=field("supported_parameters", entry.supported_parameters, words) or (),
        prices=_prices(field("pricing", entry.pricing, _pricing)),
    )


def _prices(pricing: dict[str, str | int | float | None] | None) -> Prices | None:
    """Return OpenRouter's prices, USD per token as text; a negative one means that it varies."""
    if pricing is None:
        return None

    def read(key: str) -> int | None:
        try:
            value = Decimal(str(pricing[key]))
        except (KeyError, InvalidOperation):
            return None
        return femto_usd(value, 1) if value.is_finite() and 0 <= value < _DEAREST else None

    if read("prompt") is None or read("completion") is None:
        return None
    return Prices(
        input=read("prompt"),
        output=read("completion"),
        cache_read=read("input_cache_read"),
        cache_write=read("input_cache_write"),
        reasoning=read("internal_reasoning") or None,
        request=read("request") or None,
    )
