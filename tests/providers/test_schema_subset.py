"""JSON Schema cut down for providers: what is kept, what becomes words, what cannot be said."""

from __future__ import annotations

import re
from typing import Any

import pytest
from maniac_core.providers.translation.json_schema import (
    Room,
    SchemaError,
    anthropic_schema,
    gemini_schema,
)

TEXT = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def chain(length: int, copies: int = 1) -> dict[str, Any]:
    """Definitions that refer to the next one, each so many times."""
    names = [f"p{number}" for number in range(copies)]
    definitions = {
        f"D{number}": closed(**{key: {"$ref": f"#/$defs/D{number + 1}"} for key in names})
        for number in range(length)
    }
    return {**definitions, f"D{length}": TEXT}


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
        {**closed(a=TEXT), "$defs": ["D"]},
        closed(a={"anyOf": True}),
        closed(a={"type": "object", "properties": "a"}),
        {**closed(a={"$ref": "#/$defs/D0"}), "$defs": chain(2000)},
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
        ({"type": "array"}, {"type": "array", "items": {}}),
        (
            {"type": "array", "items": {"type": "array", "items": [TEXT]}},
            {"type": "array", "items": {"type": "array", "items": {}}},
        ),
        (
            {"type": ["string", "array"], "items": TEXT},
            {"anyOf": [{"type": "string"}, {"type": "array", "items": TEXT}]},
        ),
        ({"properties": {"a": TEXT}}, closed(a=TEXT)),
        (
            {**closed(a=TEXT), "type": ["object", "string"], "required": ["a", "b"]},
            {
                "anyOf": [{**closed(a=TEXT), "required": ["a"]}, {"type": "string"}],
                "description": 'required ["b"]',
            },
        ),
        (
            closed(a={"type": "object", "required": ["b"]}),
            closed(a={"type": "object", "description": 'required ["b"]'}),
        ),
    ],
)
def test_gemini_subset(given: Any, expected: Any) -> None:
    """References are resolved, nulls are flags, unions anyOf, and the rest stands in the description."""
    assert gemini_schema(given, Room()) == expected


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"type": "object", "properties": ["a"]}, "properties must be an object"),
        (closed(a={**closed(b=TEXT), "required": True}), "required must be an array"),
        ({"allOf": [closed(a=TEXT), {"required": True}]}, "required must be an array"),
        ({**closed(a=TEXT), "$defs": ["D"]}, "$defs must be an object"),
        ({**closed(a={"$ref": "#/$defs/D0"}), "$defs": chain(2000)}, "nested too deeply"),
    ],
)
def test_gemini_refuses_what_is_no_schema(given: Any, problem: str) -> None:
    """What cannot be read is named, not guessed at."""
    with pytest.raises(SchemaError, match=re.escape(problem)):
        gemini_schema(given, Room())


def test_null_in_place_of_an_empty_list_or_map_is_read() -> None:
    """Some languages write it so."""
    given = closed(a={"type": "object", "properties": None, "required": None}, b={"format": None})
    assert gemini_schema(given, Room()) == closed(a={"type": "object", "properties": {}}, b={})


@pytest.mark.parametrize(
    "definitions",
    [
        chain(40, copies=2),
        {f"D{number}": {"allOf": [{"$ref": f"#/$defs/D{number + 1}"}] * 2} for number in range(40)},
    ],
)
def test_references_that_multiply_are_stopped(definitions: Any) -> None:
    """Forty definitions would become 2^40 copies: the gateway refuses the schema instead of standing still."""
    given = {**closed(a={"$ref": "#/$defs/D0"}), "$defs": definitions}
    with pytest.raises(SchemaError, match="too large"):
        gemini_schema(given, Room())


def test_structured_output_keeps_references_that_multiply() -> None:
    """Nothing is resolved there, and no definition is looked at twice."""
    given = {**closed(a={"$ref": "#/$defs/D0"}), "$defs": chain(40, copies=2)}
    native = anthropic_schema(given)
    assert native is not None
    assert native["$defs"].keys() == given["$defs"].keys()
