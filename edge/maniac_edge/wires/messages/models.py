"""The catalogue in Anthropic's form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from maniac_gateway.v1 import models_pb2

_UNKNOWN = "1970-01-01T00:00:00Z"


class AnthropicModel(msgspec.Struct):
    """A model."""

    id: str
    display_name: str
    created_at: str
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    type: Literal["model"] = "model"


class AnthropicModelList(msgspec.Struct):
    """A page of models."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


def anthropic_models(models: Sequence[models_pb2.Model], *, has_more: bool) -> AnthropicModelList:
    """Return models in Anthropic's form."""
    data = [anthropic_model(model) for model in models]
    return AnthropicModelList(
        data=data,
        has_more=has_more,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


def anthropic_model(model: models_pb2.Model) -> AnthropicModel:
    """Return a model in Anthropic's form."""
    return AnthropicModel(
        id=model.id,
        display_name=model.display_name or model.id,
        created_at=_time(model),
        max_input_tokens=model.context_window if model.HasField("context_window") else None,
        max_tokens=model.max_output_tokens if model.HasField("max_output_tokens") else None,
    )


def _time(model: models_pb2.Model) -> str:
    if not model.HasField("create_time"):
        return _UNKNOWN
    moment = datetime.fromtimestamp(model.create_time.seconds, UTC)
    return moment.isoformat().replace("+00:00", "Z")
