"""Models: the entries of the catalogue."""

from __future__ import annotations

import msgspec


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """List prices in nano-USD per million tokens. None: unknown."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    request_nano_usd: int | None = None
    """Nano-USD per request."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. None and empty tuples: unknown."""

    id: str
    """Full slug, `provider/name` or `maniac:label:slug`."""
    uid: str
    """UUID."""
    slug: str
    """Short name."""
    provider: str
    owned_by: str
    created: int | None = None
    """Unix seconds."""
    display_name: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    supported_parameters: tuple[str, ...] = ()
    pricing: Pricing | None = None
    container: str | None = None
    """Label, of a container's model."""
    base_model: str | None = None
    """Slug of the provider's model behind a container's model."""
    alias_models: tuple[str, ...] = ()
    """Of an alias: the slugs of its models, in order."""
