"""Evaluators: a judge or code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import JsonObject, Offset
from maniac_edge.schemas.containers import Api

Mode = Annotated[
    Literal["pointwise", "reference", "pairwise"],
    Meta(description="Each answer alone, against a reference, or two against each other."),
]
_Name = Annotated[
    str,
    Meta(
        description="1 to 128 characters, unique in the project; no control characters, no blanks at its ends."
    ),
]
_Container = Annotated[str, Meta(description="Label or id of the container it belongs to.")]
_Model = Annotated[
    str, Meta(description="Judge: slug of the model that scores, a container route included.")
]
_Prompt = Annotated[
    str,
    Meta(
        description="Judge: compares response A, the candidate, with response B, the reference, and is answered with"
        " TRUE if A is at least as good."
    ),
]
_Source = Annotated[
    str,
    Meta(
        description="Code: Python that defines `run_evaluation(item)` or `evaluate(item)` on its top level, which returns"
        ' `{"score": NUMBER}`; at most 65,536 characters. It is parsed when stored, and not run.'
    ),
]
_Requirements = Annotated[
    list[str], Meta(description="Code: packages that the source imports, as PEP 508 requirements.")
]
_Parameters = Annotated[
    JsonObject | UnsetType, Meta(description="Judge: chat parameters by their names.")
]
_Threshold = Annotated[float, Meta(description="Score from which an answer passes.")]


class EvaluatorQuery(msgspec.Struct):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    offset: Offset = 0
    container: Annotated[
        str | None, Meta(description="Only those of this container: label or id.")
    ] = None


class EvaluatorCreate(msgspec.Struct, kw_only=True):
    """A new evaluator. A judge needs `model` and `prompt`, code needs `source`."""

    type: Literal["judge", "code"]
    name: Annotated[_Name | None, Meta(description="Absent: one is made up.")] = None
    description: str | None = None
    container: _Container | None = None
    mode: Mode | None = None
    api: Api | None = None
    pass_threshold: _Threshold | None = None
    metadata: JsonObject | UnsetType = UNSET
    model: _Model | None = None
    prompt: _Prompt | None = None
    inference_parameters: _Parameters = UNSET
    source: _Source | None = None
    requirements: _Requirements | None = None


class EvaluatorUpdate(msgspec.Struct, kw_only=True):
    """Changes of an evaluator: what is absent stays, null clears."""

    name: _Name | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    container: _Container | UnsetType | None = UNSET
    mode: Mode | UnsetType | None = UNSET
    api: Api | UnsetType | None = UNSET
    pass_threshold: _Threshold | UnsetType | None = UNSET
    metadata: JsonObject | UnsetType = UNSET
    model: _Model | UnsetType | None = UNSET
    prompt: _Prompt | UnsetType | None = UNSET
    inference_parameters: _Parameters = UNSET
    source: _Source | UnsetType | None = UNSET
    requirements: _Requirements | UnsetType | None = UNSET


class _Evaluator(msgspec.Struct, kw_only=True):
    id: str
    project_id: str
    container_id: str | None
    container: Annotated[str | None, Meta(description="Label of the container.")]
    name: str
    description: str | None
    created_at: Annotated[str, Meta(description="ISO 8601.")]
    metadata: dict[str, Any] | None
    pass_threshold: float | None
    mode: Mode
    api: Api | None


class JudgeEvaluator(_Evaluator, kw_only=True, tag_field="object", tag="evaluator.judge"):
    """A model scores."""

    model: str
    prompt: str
    inference_parameters: dict[str, Any] | None


class CodeEvaluator(_Evaluator, kw_only=True, tag_field="object", tag="evaluator.code"):
    """A Python function scores."""

    source: str
    requirements: list[str]


Evaluator = JudgeEvaluator | CodeEvaluator


class EvaluatorList(msgspec.Struct, kw_only=True):
    """A page of evaluators."""

    object: Literal["list"] = "list"
    data: list[Evaluator]
    total: Annotated[int, Meta(description="How many there are in all.")]


class EvaluatorDeleted(msgspec.Struct, kw_only=True):
    """A deleted evaluator."""

    object: Literal["evaluator"] = "evaluator"
    id: str
    deleted: Literal[True] = True
