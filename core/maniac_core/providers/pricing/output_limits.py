"""The most tokens a model generates in one answer, which the bundled price data does not say.

Facts from the providers' model pages. A model that no row names has no known limit.
"""

from __future__ import annotations

# Price data's provider id -> (prefix of the model's name, tokens); the longest prefix decides.
_LIMITS: dict[str, tuple[tuple[str, int], ...]] = {
    "anthropic": (
        ("claude-2", 4_096),
        ("claude-3-", 4_096),
        ("claude-3-5-", 8_192),
        ("claude-3-7-", 64_000),
        ("claude-opus-4", 32_000),
        ("claude-sonnet-4", 64_000),
        ("claude-haiku-4-5", 64_000),
        ("claude-opus-4-5", 64_000),
        ("claude-opus-4-6", 128_000),
        ("claude-opus-4-7", 128_000),
        ("claude-opus-4-8", 128_000),
        ("claude-sonnet-4-6", 128_000),
        ("claude-fable-5", 128_000),
        ("claude-haiku-5", 128_000),
        ("claude-opus-5", 128_000),
        ("claude-sonnet-5", 128_000),
    ),
    "google": (
        ("gemini-1.5-", 8_192),
        ("gemini-2.0-", 8_192),
        ("gemini-2.5-", 65_536),
        ("gemini-3-", 65_536),
    ),
    "openai": (
        ("gpt-3.5-turbo", 4_096),
        ("gpt-4-turbo", 4_096),
        ("gpt-4.1", 32_768),
        ("gpt-4o", 16_384),
        ("gpt-4o-2024-05-13", 4_096),
        ("gpt-5", 128_000),
        ("gpt-5-chat", 16_384),
        ("o1", 100_000),
        ("o1-mini", 65_536),
        ("o1-preview", 32_768),
        ("o3", 100_000),
        ("o4-mini", 100_000),
    ),
}


# They serve other providers' models under names that begin with a region or a publisher.
_CLOUDS = ("aws", "google")


def max_output_tokens(provider_id: str, model: str) -> int | None:
    """Return the limit of a model at a provider of the price data; None: unknown."""
    if provider_id in _CLOUDS and "claude-" in model:
        provider_id, model = "anthropic", model[model.index("claude-") :]
    rows = [row for row in _LIMITS.get(provider_id, ()) if model.startswith(row[0])]
    return max(rows, key=lambda row: len(row[0]))[1] if rows else None
