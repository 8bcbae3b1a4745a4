"""Optimization runs: models trained on what was captured."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.evaluation_runs import ContainerSource, DatasetSource, Range


class FileSource(msgspec.Struct, kw_only=True, tag_field="type", tag="file"):
    """The lines of an uploaded file."""

    file: str
    range: Range | None = None


class Method(msgspec.Struct, kw_only=True):
    """How to train; absent hyperparameters have their defaults."""

    type: Literal["sft", "grpo"]
    hyperparameters: dict[str, msgspec.Raw] | None = None


class OptimizationRunCreate(msgspec.Struct, kw_only=True):
    """A new run."""

    container: Annotated[str, Meta(description="Label or id.")]
    base_models: Annotated[list[str], Meta(min_length=1)]
    evals: Annotated[list[str], Meta(description="Ids or names of evaluators.")]
    methods: Annotated[list[Method], Meta(min_length=1)]
    data_source: DatasetSource | ContainerSource | FileSource | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    environment: str = "main"
