"""Evaluation runs: evaluators over a sample and its ground truth."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from maniac_edge.schemas.common import Offset

Range = Annotated[
    str,
    Meta(
        pattern=r"^-?\d*:-?\d*(:-?\d*)?$",
        description="Which of them, as the text of a Python slice.",
    ),
]


class DatasetSource(msgspec.Struct, kw_only=True, tag_field="type", tag="dataset"):
    """The examples of a dataset."""

    dataset: str
    range: Range | None = "0:100"


class ContainerSource(msgspec.Struct, kw_only=True, tag_field="type", tag="container"):
    """The completions captured through a container."""

    container: str
    range: Range | None = "0:100"


class GenerateSource(msgspec.Struct, kw_only=True, tag_field="type", tag="generate"):
    """Answers that models give for it."""

    models: Annotated[list[str], Meta(min_length=1)]
    range: Range | None = "0:100"


Source = DatasetSource | ContainerSource | GenerateSource


class EvaluationRunCreate(msgspec.Struct, kw_only=True):
    """A new run. A side that is absent is the container's completions; one side may be generated, not both."""

    container: Annotated[str, Meta(description="Label or id.")]
    evaluators: Annotated[list[str], Meta(min_length=1, description="Ids or names.")]
    sample: Source | None = None
    ground_truth: Source | None = None
    metadata: dict[str, msgspec.Raw] | None = None
    environment: str = "main"


class EvaluationRunQuery(msgspec.Struct):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    offset: Offset = 0
    container: Annotated[str | None, Meta(description="Label or id.")] = None
    status: Annotated[
        Literal["queued", "running", "completed", "error", "cancelled"] | None,
        Meta(description="Only runs in this state."),
    ] = None
