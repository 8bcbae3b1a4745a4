"""Evaluators: rules by which answers are scored."""

from __future__ import annotations

from typing import Literal

import msgspec

EvaluatorMode = Literal["pointwise", "reference", "pairwise"]


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """A model scores."""

    model: str
    """Slug of the model, or of the container route to one."""
    prompt: str
    inference_parameters: bytes | None = None
    """A JSON object."""


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """A Python function scores."""

    source: str
    """Defines `run_evaluation(item)`, or `evaluate(item)`."""
    requirements: tuple[str, ...] = ()
    """Packages that it imports."""


class Evaluator(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluator."""

    id: str = ""
    project_id: str = ""
    name: str
    """Unique in the project. Empty on input: one is made up."""
    description: str | None = None
    container: str | None = None
    """On input a label, `maniac:label` or id, then the label."""
    container_id: str | None = None
    container_key: int | None = None
    """The storage's key of the container."""
    mode: EvaluatorMode = "pointwise"
    api: str | None = None
    pass_threshold: float | None = None
    metadata: bytes | None = None
    """A JSON object."""
    rule: Judge | Code
    created: int = 0
    """Unix seconds."""
