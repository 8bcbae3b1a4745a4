"""The bundled catalogue: which models it knows and what their tokens cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Usage
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.prices import Prices

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def provider(base_url: str) -> ProviderConfig:
    return ProviderConfig(kind="openai", base_url=base_url)


def test_known_model_has_its_window_and_limit(catalogue: Catalogue) -> None:
    """A model is found by the provider's own name of it, dated or not."""
    for name in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"):
        entry = catalogue.find("openai", name)
        assert entry is not None
        assert (entry.name, entry.context_window, entry.max_output_tokens) == (
            name,
            128_000,
            16_384,
        )
    assert catalogue.find("gemini", "models/gemini-2.5-flash") is not None
    assert catalogue.find("openai", "gpt-4o") is catalogue.find("openai", "gpt-4o")


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4_096),
        ("claude-3-5-haiku-latest", 8_192),
        ("claude-3-7-sonnet-latest", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-5", 64_000),
        ("claude-opus-4-6", 128_000),
        ("claude-sonnet-5-5", 128_000),
    ],
)
def test_anthropic_models_have_an_output_limit(
    catalogue: Catalogue, model: str, limit: int
) -> None:
    """Anthropic wants a limit on every request, so the catalogue has to know it."""
    entry = catalogue.find("anthropic", model)
    assert entry is not None
    assert entry.max_output_tokens == limit


def test_unknown_is_none_and_never_free(catalogue: Catalogue) -> None:
    """Unknown providers and models, and known ones without a price, cost None."""
    usage = Usage(input_tokens=10, output_tokens=10)
    assert catalogue.find("local", "smollm2") is None
    assert catalogue.find("openai", "no-such-model") is None
    assert catalogue.spend("local", "smollm2", usage) is None
    assert catalogue.spend("openai", "no-such-model", usage) is None
    # In the price list, but with an empty row.
    assert catalogue.spend("cerebras", "qwen-3-coder-480b", usage) is None
    # Embeddings have no price for output.
    assert catalogue.spend("openai", "text-embedding-3-small", usage) is None


def test_free_models_cost_nothing(catalogue: Catalogue) -> None:
    """A model that is called free is 0, which is not the same as unknown."""
    free = next(entry for entry in catalogue.models("openrouter") if entry.name.endswith(":free"))
    assert free.spend_nano_usd(Usage(input_tokens=10, output_tokens=10)) == 0


def test_provider_is_recognised_by_url_before_name() -> None:
    """A table of any name over a known URL has its prices; a proxy of a known name keeps them."""
    usage = Usage(input_tokens=1_000_000)
    catalogue = Catalogue(
        {
            "fast": provider("https://api.groq.com/openai/v1"),
            "openai": provider("http://proxy.internal/v1"),
            "mistral": provider("https://api.openai.com/v1"),
            "mine": provider("http://127.0.0.1:8000/v1"),
        }
    )
    assert catalogue.spend("fast", "llama-3.3-70b-versatile", usage) is not None
    assert catalogue.spend("openai", "gpt-4o-mini", usage) == 150_000_000
    assert catalogue.spend("mistral", "gpt-4o-mini", usage) == 150_000_000
    assert catalogue.spend("mine", "gpt-4o-mini", usage) is None


def test_azure_falls_back_to_the_makers_prices() -> None:
    """Azure's own list is short; the maker's price stands in."""
    catalogue = Catalogue({"az": provider("https://r.openai.azure.com/openai/v1")})
    usage = Usage(input_tokens=1_000_000)
    assert catalogue.spend("az", "gpt-4o-mini", usage, at_s=NOW) == 150_000_000


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        (Usage(input_tokens=1_000), 150_000),
        (Usage(cache_read_tokens=1_000), 75_000),
        (Usage(cache_write_tokens=1_000), 150_000),
        (Usage(output_tokens=1_000), 600_000),
        (Usage(reasoning_tokens=1_000), 600_000),
        (Usage(input_tokens=1), 150),
        (Usage(), 0),
    ],
)
def test_buckets_have_their_prices(catalogue: Catalogue, usage: Usage, nano_usd: int) -> None:
    """Cached input has its own price; what has none is priced as what it is a part of."""
    assert catalogue.spend("openai", "gpt-4o-mini", usage, at_s=NOW) == nano_usd


def test_anthropic_cache_writes_have_two_prices(catalogue: Catalogue) -> None:
    """Five minutes and one hour cost 1.25 and 2 times the input."""
    for usage, nano_usd in (
        (Usage(cache_write_tokens=1_000), 3_750_000),
        (Usage(cache_write_1h_tokens=1_000), 6_000_000),
        (Usage(cache_read_tokens=1_000), 300_000),
    ):
        assert catalogue.spend("anthropic", "claude-sonnet-4-5", usage, at_s=NOW) == nano_usd


def test_long_prompts_change_the_price_of_all_tokens(catalogue: Catalogue) -> None:
    """Above a tier's threshold, cached tokens included, the tier's prices hold for everything."""
    entry = catalogue.find("openai", "gpt-5.4")
    assert entry is not None
    short = Usage(input_tokens=200_000, cache_read_tokens=72_000, output_tokens=1_000)
    above = Usage(input_tokens=200_001, cache_read_tokens=72_000, output_tokens=1_000)
    assert entry.spend_nano_usd(short, at_s=NOW) == 200_000 * 2_500 + 72_000 * 250 + 1_000 * 15_000
    base, raised = entry.spend_nano_usd(short, at_s=NOW), entry.spend_nano_usd(above, at_s=NOW)
    assert base is not None
    assert raised is not None
    assert raised > base * 1.4


def test_prices_change_with_the_date_and_the_hour(catalogue: Catalogue) -> None:
    """Rows with a start date or off-peak hours hold at their time only."""
    usage = Usage(input_tokens=1_000_000)

    def spend(at: datetime) -> int | None:
        return catalogue.spend("deepseek", "deepseek-chat", usage, at_s=at.timestamp())

    peak = spend(datetime(2025, 6, 1, 12, tzinfo=UTC))
    off_peak = spend(datetime(2025, 6, 1, 20, tzinfo=UTC))
    assert peak is not None
    assert off_peak is not None
    assert off_peak < peak
    assert spend(datetime(2025, 6, 1, 12, tzinfo=UTC)) == peak

    usage = Usage(input_tokens=1_000_000)
    cheap_before = catalogue.spend(
        "openai", "o3", usage, at_s=datetime(2025, 6, 1, tzinfo=UTC).timestamp()
    )
    cheap_after = catalogue.spend("openai", "o3", usage, at_s=NOW)
    assert (cheap_before, cheap_after) == (10_000_000_000, 2_000_000_000)


def test_service_tiers_have_their_prices(catalogue: Catalogue) -> None:
    """Flex is cheaper and priority dearer than the standard class; an unknown class is the standard one."""

    def spend(tier: str | None) -> int:
        usage = Usage(input_tokens=1_000, output_tokens=1_000, service_tier=tier)
        got = catalogue.spend("openai", "gpt-5", usage, at_s=NOW)
        assert got is not None
        return got

    assert spend("flex") < spend(None) < spend("priority")
    assert spend("scale") == spend(None)


def test_prices_agree_with_the_price_data(catalogue: Catalogue) -> None:
    """For every model of three providers, short and long prompts cost what genai-prices computes."""
    from genai_prices import Usage as DataUsage
    from genai_prices import calc_price

    checked = 0
    moment = datetime.fromtimestamp(NOW, UTC)
    for name, provider_id in (
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("gemini", "google"),
    ):
        for entry in catalogue.models(name):
            for scale in (1, 1_000):
                usage = Usage(
                    input_tokens=700 * scale,
                    cache_read_tokens=200 * scale,
                    cache_write_tokens=100 * scale,
                    output_tokens=30 * scale,
                    reasoning_tokens=20 * scale,
                )
                expected = calc_price(
                    DataUsage(
                        input_tokens=usage.prompt_tokens,
                        cache_read_tokens=usage.cache_read_tokens,
                        cache_write_tokens=usage.cache_write_tokens,
                        output_tokens=usage.completion_tokens,
                        output_reasoning_tokens=usage.reasoning_tokens,
                    ),
                    entry.name,
                    provider_id=provider_id,
                    genai_request_timestamp=moment,
                ).total_price
                got = entry.spend_nano_usd(usage, at_s=NOW)
                if got is None:
                    assert expected == 0, entry.name
                    continue
                assert abs(got - expected * 10**9) <= Decimal("0.5"), entry.name
                checked += 1
    assert checked > 150


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        (
            "openai",
            {"gpt-4o", "gpt-5", "o3", "o1-pro"},
            {"text-embedding-3-small", "gpt-image-1", "o3-deep-research"},
        ),
        ("anthropic", {"claude-sonnet-4-5"}, set[str]()),
        ("gemini", {"gemini-2.5-pro"}, {"claude-opus-4-5", "gemini-embedding-001"}),
        ("openrouter", {"openai/gpt-4o"}, {"mythalion-13b"}),
    ],
)
def test_models_lists_what_can_be_chatted_with(
    catalogue: Catalogue, name: str, present: set[str], absent: set[str]
) -> None:
    """Embeddings, images, speech and other makers' models are left out; every entry can be found again."""
    entries = catalogue.models(name)
    names = [entry.name for entry in entries]
    assert present <= set(names)
    assert absent.isdisjoint(names)
    assert names == sorted(names)
    assert all(catalogue.find(name, entry.name) is not None for entry in entries)


def test_models_of_an_unknown_provider_are_none(catalogue: Catalogue) -> None:
    """A provider that the data does not know has an empty list."""
    assert catalogue.models("local") == []


def test_prices_are_told_as_decimal_usd_per_token(catalogue: Catalogue) -> None:
    """Text without exponents, and only what has a price."""
    entry = catalogue.find("openai", "gpt-4o-mini")
    assert entry is not None
    prices = entry.prices(at_s=NOW)
    assert prices is not None
    assert prices.usd() == {
        "input": "0.00000015",
        "output": "0.0000006",
        "cache_read": "0.000000075",
    }


@pytest.mark.parametrize(
    ("prices", "usage", "nano_usd"),
    [
        (
            {"input": 10**9, "input_audio": 4 * 10**9},
            {"input_tokens": 10, "input_audio_tokens": 4},
            22_000,
        ),
        ({"input": 10**9}, {"input_tokens": 10, "input_audio_tokens": 4}, 10_000),
        ({"output": 10**9, "output_audio": 0}, {"output_tokens": 10, "output_audio_tokens": 99}, 0),
        (
            {"output": 10**9, "reasoning": 2 * 10**9},
            {"output_tokens": 1, "reasoning_tokens": 1},
            3_000,
        ),
        ({"input": 0, "output": 0, "request": 5 * 10**12}, {"input_tokens": 1}, 5_000_000),
        ({"input": 1_500_000}, {"input_tokens": 1}, 2),
        ({"input": 1_499_999}, {"input_tokens": 1}, 1),
        ({"input": 10**9}, {"output_tokens": 1}, None),
        ({"output": 10**9}, {"cache_read_tokens": 1}, None),
    ],
)
def test_cost_of_a_row(prices: dict[str, Any], usage: dict[str, Any], nano_usd: int | None) -> None:
    """Audio, reasoning and requests have prices of their own, sums round half up, no price is None."""
    assert Prices(**prices).cost_nano_usd(Usage(**usage)) == nano_usd
