"""Datasets: immutable snapshots of a container's completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from maniac_edge.schemas.common import Integer, JsonObject, Offset

Operator = Literal[
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "greater_than",
    "less_than",
    "greater_than_or_equal",
    "less_than_or_equal",
    "in",
    "not_in",
    "exists",
    "not_exists",
    "between",
]
_Value = Annotated[
    msgspec.Raw,
    Meta(
        description="What to compare with: for `in` and `not_in` an array, for `between` `[low, high]`; `exists` and"
        " `not_exists` ignore it. `created` takes Unix seconds or an ISO 8601 time.",
        extra_json_schema={},
    ),
]


class DatasetQuery(msgspec.Struct):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    offset: Offset = 0
    container: Annotated[
        str | None, Meta(description="Only those of this container: label or id.")
    ] = None


class DatasetContentQuery(msgspec.Struct):
    """The form of the content."""

    format: Annotated[
        Literal["full", "fine_tuning"],
        Meta(description="`fine_tuning`: OpenAI's form; incomplete answers are omitted."),
    ] = "full"


class DatasetFilter(msgspec.Struct, kw_only=True):
    """A condition; a completion whose value has a different type does not match."""

    key: Annotated[
        str,
        Meta(
            description="id, model, provider, container, tags, created, finish_reason, spend (USD), usage.NAME,"
            " metadata.PATH, trace.id, trace.span_id, input.text or output.text."
        ),
    ]
    operator: Operator
    value: _Value | UnsetType = UNSET


class DatasetCreate(msgspec.Struct, kw_only=True):
    """The completions to take, and the description of the dataset."""

    name: Annotated[
        str, Meta(description="1 to 128 characters without control characters; need not be unique.")
    ]
    container: Annotated[str, Meta(description="Label or id of the container.")]
    size: Annotated[Integer, Meta(description="How many completions at most, from 1.")]
    description: str | None = None
    tags: list[str] | None = None
    filters: Annotated[
        list[DatasetFilter] | None,
        Meta(description="A completion must match all; at most 32, with 1,000 values in all."),
    ] = None
    metadata: JsonObject | UnsetType = UNSET


class DatasetCreated(msgspec.Struct, kw_only=True):
    """A dataset that is complete."""

    id: str
    message: Annotated[str, Meta(description="How many completions were taken.")]


class Dataset(msgspec.Struct, kw_only=True):
    """The description of a dataset."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    description: str | None
    user_id: None = None
    project_id: str
    org_id: str | None
    container_id: str
    requested_size: int
    size: Annotated[int, Meta(description="How many completions it holds.")]
    filters: list[dict[str, Any]]
    created_at: Annotated[str, Meta(description="ISO 8601.")]
    tags: list[str]
    metadata: dict[str, Any] | None
    content_sha256: Annotated[
        str,
        Meta(
            description="Over the completions' own hashes in order; the same filters on the same completions give the"
            " same."
        ),
    ]


class DatasetList(msgspec.Struct, kw_only=True):
    """A page of datasets."""

    object: Literal["list"] = "list"
    data: list[Dataset]
    total: Annotated[int, Meta(description="How many there are in all.")]


class DatasetDeleted(msgspec.Struct, kw_only=True):
    """A deleted dataset."""

    object: Literal["dataset"] = "dataset"
    id: str
    deleted: Literal[True] = True
