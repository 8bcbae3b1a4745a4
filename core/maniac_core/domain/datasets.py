"""Datasets: immutable snapshots of a container's completions, and the conditions by which they are taken."""

from __future__ import annotations

from typing import Literal

import msgspec

from maniac_core.domain.completions import StoredCompletion, StoredInput

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
OperandType = Literal["text", "number", "boolean", "array", "object"]

COLUMN_KEYS = frozenset(
    {
        *("id", "model", "provider", "container", "tags", "created", "finish_reason", "spend"),
        *("trace.id", "trace.span_id", "input.text", "output.text"),
        *("usage.prompt_tokens", "usage.completion_tokens", "usage.total_tokens"),
        *("usage.cached_tokens", "usage.cache_write_tokens", "usage.reasoning_tokens"),
        *("usage.prompt_audio_tokens", "usage.completion_audio_tokens"),
    }
)
"""Keys of filters, without those of metadata."""


class Operand(msgspec.Struct, frozen=True):
    """A value to compare with."""

    type: OperandType
    value: str | float
    """A text or number; of the other types, and of nothing else, canonical JSON."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A filter that was found to be valid."""

    key: str
    """One of COLUMN_KEYS, or `metadata`."""
    path: tuple[str, ...] = ()
    """Keys into the metadata."""
    operator: Operator
    operands: tuple[Operand, ...] = ()
    """One; of in and not_in any number; of between two of one type; of exists and not_exists none."""


class DatasetFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A filter as it was given."""

    key: str
    operator: str
    value: msgspec.Raw = msgspec.Raw(b"null")


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a dataset."""

    key: int = 0
    """The storage's key."""
    id: str = ""
    project_id: str = ""
    organization_id: str = ""
    name: str
    description: str | None = None
    container: str
    """On input a label, `maniac:label` or id, then the label."""
    container_id: str = ""
    requested_size: int
    size: int = 0
    filters: tuple[DatasetFilter, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: bytes | None = None
    """A JSON object."""
    content_hash: bytes = b""
    """SHA-256 over the items' own, in order."""
    created: int = 0
    """Unix seconds."""


class DatasetItem(msgspec.Struct, frozen=True, kw_only=True):
    """A completion that a dataset has taken, with its content."""

    completion: StoredCompletion
    input: StoredInput
