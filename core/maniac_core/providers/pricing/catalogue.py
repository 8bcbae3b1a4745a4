"""The bundled model catalogue: context windows and prices from the offline data of genai-prices.

The data is loaded when the first model is looked up (190 ms, 31 MB). A model is resolved once and kept; a price then
takes about 2 us. A price that is not known is None, never 0.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Usage
from maniac_core.providers.pricing.output_limits import max_output_tokens
from maniac_core.providers.pricing.prices import FREE, Prices, femto_usd

if TYPE_CHECKING:
    from genai_prices import types as data

# Providers whose usual name differs from the data's.
_ALIASES = {name: row.prices for name, row in KNOWN_PROVIDERS.items() if row.prices}
# Names come from callers, so what is remembered of them has to end somewhere.
_MAX_KEPT = 10_000
_PRICE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "request": "requests_kcount",
}
_NOT_CHAT = re.compile(
    r"embed|rerank|moderation|whisper|transcribe|tts|dall-e|image|imagen|banana|sora|veo|lyria|realtime"
    r"|live|robotics|omni|computer-use|ocr|instruct$|davinci|babbage|^ada$|^curie$|^ft:|\.ft-"
)
# Models in a provider's price list that its chat endpoint does not serve, or serves under another name:
# by the name of the provider, else by that in the data.
_NOT_SERVED = {
    "fireworks": re.compile(""),
    "google": re.compile(r"^(?!gemini-\d|gemma-)"),
    "openai": re.compile(r"deep-research|gpt-oss|rosalind|-cyber$|:|gpt-3\.5-0301"),
    "openrouter": re.compile(r"^[^/]+$"),
    "vertex": re.compile(r"^(?!gemini-\d|claude-[a-z]+-\d)"),
    "zai": re.compile(r"^[A-Z]"),
}


class ModelEntry:
    """One model of one provider."""

    def __init__(self, provider_id: str, name: str, info: data.ModelInfo | None) -> None:
        """`name`: the provider's own name, as it was asked for. `info` None: nothing is known but that it is free."""
        self.name = name
        self.display_name = info.name if info else None
        self.context_window = info.context_window if info else None
        """Tokens; None: unknown."""
        self.max_output_tokens = max_output_tokens(provider_id, name)
        """Tokens; None: unknown."""
        self._info = info
        self._period_s = _period_s(info) if info else 0
        # Service tier -> (period, its prices).
        self._rows: dict[str | None, tuple[int, Prices | None]] = {}

    def prices(
        self, *, at_s: float | None = None, service_tier: str | None = None
    ) -> Prices | None:
        """Return the prices at a time (Unix seconds; now by default); None: unknown."""
        period = 0
        if self._period_s:
            period = int(time.time() if at_s is None else at_s) // self._period_s
        row = self._rows.get(service_tier)
        if row is None or row[0] != period:
            row = (period, self._row(period * self._period_s, service_tier))
            if len(self._rows) < _MAX_KEPT:
                self._rows[service_tier] = row
        return row[1]

    def spend_nano_usd(self, usage: Usage, *, at_s: float | None = None) -> int | None:
        """Return what a usage costs by these prices; None: unknown."""
        prices = self.prices(at_s=at_s, service_tier=usage.service_tier)
        return None if prices is None else prices.cost_nano_usd(usage)

    def _row(self, at_s: int, service_tier: str | None) -> Prices | None:
        if self._info is None:
            return FREE
        moment = datetime.fromtimestamp(at_s, UTC)
        # OpenAI's processing tiers stand under one key, Anthropic's fast mode under another.
        context = {"service_tier": service_tier, "speed": service_tier} if service_tier else None
        row = _prices(self._info.get_prices(moment, context))
        if row is None and (self.name.endswith(":free") or "(free)" in (self.display_name or "")):
            return FREE
        return row


class Catalogue:
    """Looks models up by the names of the configured providers and their own names of models."""

    def __init__(self, providers: Mapping[str, ProviderConfig] | None = None) -> None:
        """A provider is recognised by its base URL, else by its name; so a proxy keeps its prices."""
        self._base_urls = {name: known.base_url for name, known in KNOWN_PROVIDERS.items()}
        self._base_urls |= {name: config.base_url for name, config in (providers or {}).items()}
        self._free = {
            name for name, config in (providers or {}).items() if config.unpriced == "free"
        }
        self._providers: dict[str, data.Provider | None] = {}
        self._entries: dict[tuple[str, str], ModelEntry | None] = {}

    def find(self, provider: str, model: str) -> ModelEntry | None:
        """Return what is known of a model; None: nothing. `model` is the provider's own name of it."""
        key = (provider, model)
        try:
            return self._entries[key]
        except KeyError:
            pass
        if len(self._entries) >= _MAX_KEPT:
            self._entries.clear()
        entry = self._find(provider, model)
        if entry is None and provider in self._free:
            entry = ModelEntry(provider, model, None)
        self._entries[key] = entry
        return entry

    def models(self, provider: str) -> list[ModelEntry]:
        """Return the chat models of a provider, by name; empty for one that the data does not know."""
        known = self._provider(provider)
        if known is None:
            return []
        not_served = _NOT_SERVED.get(provider) or _NOT_SERVED.get(known.id)
        return [
            ModelEntry(known.id, info.id, info)
            for info in sorted(known.models, key=lambda info: info.id)
            if not _NOT_CHAT.search(info.id)
            and not (not_served and not_served.search(info.id))
            and _is_priced_by_output(info)
        ]

    def spend(
        self, provider: str, model: str, usage: Usage, *, at_s: float | None = None
    ) -> int | None:
        """Return what a usage costs in nano-USD, at a time (Unix seconds; now by default); None: unknown."""
        entry = self.find(provider, model)
        return None if entry is None else entry.spend_nano_usd(usage, at_s=at_s)

    def _find(self, provider: str, model: str) -> ModelEntry | None:
        known = self._provider(provider)
        if known is None:
            return None
        name = model.removeprefix("models/")
        info = known.find_model(name, all_providers=_data())
        return None if info is None else ModelEntry(known.id, name, info)

    def _provider(self, name: str) -> data.Provider | None:
        if name not in self._providers:
            self._providers[name] = self._recognise(name)
        return self._providers[name]

    def _recognise(self, name: str) -> data.Provider | None:
        base_url = self._base_urls.get(name, "")
        wanted = _ALIASES.get(name, name)
        for provider in _data():
            if base_url and re.match(provider.api_pattern, base_url):
                return provider
        return next((provider for provider in _data() if provider.id == wanted), None)


def _data() -> list[data.Provider]:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - slow, and not always needed

    return get_snapshot().providers


def _period_s(info: data.ModelInfo) -> int:
    """Return how long a row is valid: seconds, in multiples of which prices may change; 0: forever."""
    rows = info.prices if isinstance(info.prices, list) else []
    constraints = [row.constraint for row in rows]
    constraints += [variant.constraint for variant in info.price_variants or ()]
    if all(constraint is None for constraint in constraints):
        return 0
    # Dates change at midnight UTC, off-peak hours at some minute of the day.
    return 60 if any(hasattr(constraint, "start_time") for constraint in constraints) else 86_400


def _is_priced_by_output(info: data.ModelInfo) -> bool:
    prices = info.prices[0].prices if isinstance(info.prices, list) else info.prices
    return prices.output_mtok is not None or not any(vars(prices).values())


def _prices(row: data.ModelPrice) -> Prices | None:
    """Return the row in our units; None when it has no price for tokens."""
    if row.input_mtok is None and row.output_mtok is None:
        return None
    starts = {
        tier.start
        for key in _PRICE_KEYS.values()
        for tier in getattr(getattr(row, key), "tiers", ())
    }
    above = [(start, Prices(**_flat(row, start))) for start in sorted(starts, reverse=True)]
    return Prices(**_flat(row, None), above=tuple(above))


def _flat(row: data.ModelPrice, start: int | None) -> dict[str, Any]:
    """Return the prices for prompts longer than `start` tokens; None: for the shortest ones."""
    flat: dict[str, Any] = {}
    for name, key in _PRICE_KEYS.items():
        price = getattr(row, key)
        if price is None:
            continue
        usd: Decimal
        if isinstance(price, Decimal):
            usd = price
        else:
            usd = price.base
            for tier in price.tiers:
                if start is not None and tier.start <= start:
                    usd = tier.price
        flat[name] = femto_usd(usd, 1_000 if name == "request" else 1_000_000)
    return flat
