"""JSON Schema cut down for providers: what is kept, what becomes words, what cannot be said."""

from __future__ import annotations

from typing import Any

import pytest
from maniac_core.providers.schema_subset import anthropic_schema, gemini_schema

TEXT = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


NODE = {"$defs": {"N": closed(next={"$ref": "#/$defs/N"})}, "$ref": "#/$defs/N"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {**closed(a=TEXT), "$schema": "x", "title": "T", "additionalProperties": False},
            {**closed(a=TEXT), "additionalProperties": False},
        ),
        (
            closed(title={"type": "integer", "minimum": 1, "maximum": 9, "description": "D"}),
            {
                **closed(title={"type": "integer", "description": "D (minimum 1, maximum 9)"}),
                "additionalProperties": False,
            },
        ),
        (
            {"type": "array", "items": {"oneOf": [TEXT, {"type": "null"}]}, "minItems": 3},
            {
                "type": "array",
                "items": {"anyOf": [TEXT, {"type": "null"}]},
                "description": "minItems 3",
            },
        ),
        (
            {"type": "string", "format": "date", "enum": ["a"]},
            {"type": "string", "format": "date", "enum": ["a"]},
        ),
        ({"type": "string", "format": "phone"}, {"type": "string", "description": "format phone"}),
        (
            {"$defs": {"A": closed(x=TEXT)}, **closed(a={"$ref": "#/$defs/A"})},
            {
                "$defs": {"A": {**closed(x=TEXT), "additionalProperties": False}},
                **closed(a={"$ref": "#/$defs/A"}),
                "additionalProperties": False,
            },
        ),
    ],
)
def test_anthropic_keeps_what_it_can_check(given: Any, expected: Any) -> None:
    """Objects are closed, and rules without a counterpart stand in the description."""
    assert anthropic_schema(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"type": "object"},
        {**closed(a=TEXT), "additionalProperties": True},
        {**closed(a=TEXT), "additionalProperties": TEXT},
        closed(a={"type": "object", "patternProperties": {".": TEXT}}),
        closed(a=True),
        NODE,
        closed(a={"$ref": "#/$defs/missing"}),
    ],
)
def test_anthropic_cannot_say_open_or_recursive_schemas(given: Any) -> None:
    """These have no native form, so that the caller takes another way."""
    assert anthropic_schema(given) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {**closed(a=TEXT), "$schema": "x", "additionalProperties": False, "required": ["a"]},
            {**closed(a=TEXT), "required": ["a"]},
        ),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        (
            {"type": ["string", "integer"]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", None]}, {"type": "string", "enum": ["a"], "nullable": True}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "one of [1,2]"}),
        ({"enum": [True]}, {"type": "boolean", "description": "one of [true]"}),
        (
            {"anyOf": [closed(a=TEXT), {"type": "null"}], "description": "D"},
            {**closed(a=TEXT), "nullable": True, "description": "D"},
        ),
        ({"oneOf": [TEXT, {"type": "integer"}]}, {"anyOf": [TEXT, {"type": "integer"}]}),
        (
            {"allOf": [closed(a=TEXT), {**closed(b=TEXT), "required": ["b"]}]},
            {**closed(a=TEXT, b=TEXT), "required": ["b"]},
        ),
        (
            {"$defs": {"A": closed(x=TEXT)}, **closed(a={"$ref": "#/$defs/A", "title": "T"})},
            closed(a={**closed(x=TEXT), "title": "T"}),
        ),
        (
            {"$defs": {"A": closed(x=TEXT)}, "allOf": [{"$ref": "#/$defs/A"}]},
            closed(x=TEXT),
        ),
        (
            {"type": "string", "format": "email", "minLength": 1},
            {"type": "string", "minLength": 1, "description": "format email"},
        ),
        (
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "number", "description": "exclusiveMinimum 0"},
        ),
        (NODE, closed(next={"type": "object"})),
        (
            {"type": "array", "items": {"$ref": "#/definitions/A"}, "definitions": {"A": TEXT}},
            {"type": "array", "items": TEXT},
        ),
        (closed(a=True), closed(a={})),
    ],
)
def test_gemini_subset(given: Any, expected: Any) -> None:
    """References are resolved, nulls are flags, unions anyOf, and the rest stands in the description."""
    assert gemini_schema(given) == expected
