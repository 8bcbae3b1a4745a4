"""Containers: named routes with defaults, under which completions are collected."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import JsonObject


class SubModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model attached to a container under a name of its own."""

    id: str
    slug: str
    model: str
    """Slug of the provider's model that serves it."""
    default_parameters: JsonObject | None = None
    default_system_prompt: str | None = None
    created: int
    """Unix seconds."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A live or deleted container with its sub-models."""

    key: int
    """The storage's key."""
    id: str
    project_id: str
    organization_id: str
    label: str
    api: str = "chat.completions"
    initial_model: str
    """Slug of a provider's model."""
    default_model: str | None = None
    """Slug of the provider's model that serves instead of initial_model."""
    best_model_id: str | None = None
    """UUID of default_model, or of the sub-model it was chosen by."""
    default_system_prompt: str | None = None
    default_parameters: JsonObject | None = None
    default_few_shot_messages: list[JsonObject] | None = None
    system_prompt_prefix: str | None = None
    optimized_system_prompt: str | None = None
    optimized_parameters: JsonObject | None = None
    optimized_few_shot_messages: list[JsonObject] | None = None
    created: int
    """Unix seconds."""
    deleted: int | None = None
    """Unix seconds."""
    sub_models: tuple[SubModel, ...] = ()
