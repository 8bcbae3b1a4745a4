"""Shapes that several resources share."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Integer = Annotated[
    int | float, Meta(description="A whole number; 64.0 is accepted as 64, 64.5 is refused.")
]

Offset = Annotated[int, Meta(ge=0, le=2**63 - 1, description="How many to skip.")]

JsonObject = Annotated[
    msgspec.Raw, Meta(extra_json_schema={"type": ["object", "null"], "additionalProperties": True})
]
"""Any JSON object, kept verbatim. msgspec does not look inside: check it with `validation.json_object`."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The error."""

    message: str
    """One sentence for a person."""
    type: str
    """One of the closed set of error types."""
    param: str | None
    """The request field it is about, such as `messages[0].role`."""
    code: str
    """The exact cause."""
    details: dict[str, Any] | None = None


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One invalid field of a management request."""

    loc: list[str | int]
    """Path of the field, from `body`, `query` or `path`."""
    msg: str
    type: str
    """A short machine-readable kind, such as `missing` or `enum`."""


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every failed request."""

    error: ErrorBody
    detail: list[FieldError] | None = None
    """With status 422 only: every invalid field."""
