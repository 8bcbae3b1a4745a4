"""JSON Schema cut down to what providers accept, with what is lost kept as words in the description."""

from __future__ import annotations

from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject

_ANTHROPIC_NOTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)
_ANTHROPIC_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_ANTHROPIC_DROPPED = frozenset(
    {"$schema", "$id", "title", "examples", "not", "if", "then", "else", "dependentRequired"}
)
_GEMINI_KEPT = (
    "title",
    "description",
    "nullable",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "propertyOrdering",
    "default",
)
_OF_OBJECTS = ("properties", "required")
_GEMINI_NOTED = ("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems")
_GEMINI_FORMATS = frozenset({"date-time", "enum", "float", "double", "int32", "int64"})


class SchemaError(Exception):
    """The schema cannot be read; says why, as the rest of a sentence about it."""


class _Unsupported(Exception):
    """The schema cannot be expressed."""


class Room:
    """Bytes that resolved references may add to the schemas of one request: references to references multiply."""

    def __init__(self) -> None:
        self._left_bytes = 1024 * 1024

    def take(self, size: int) -> None:
        """Use up so many bytes of JSON.

        Raises:
            SchemaError: there are not so many.
        """
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise SchemaError("is too large with its references resolved")


class _Definitions:
    """The targets of the references of one schema."""

    def __init__(self, schema: JsonObject, room: Room) -> None:
        self._named = {**_map(schema, "definitions"), **_map(schema, "$defs")}
        self._sizes: dict[str, int] = {}
        self._room = room

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def resolve(self, name: str) -> JsonObject:
        """Return a definition, to be copied to where it is referred to; empty if there is none."""
        definition = _object(self._named.get(name))
        if name not in self._sizes:
            self._sizes[name] = len(msgspec.json.encode(definition))
        self._room.take(self._sizes[name])
        return definition


def anthropic_schema(schema: JsonObject) -> JsonObject | None:
    """Return a schema for Anthropic's structured output, or None when it cannot say the same.

    Objects there are closed: one that is open, or a schema that refers to itself, cannot be expressed.
    """
    try:
        definitions = {**_map(schema, "definitions"), **_map(schema, "$defs")}
        _check_references(schema, definitions, (), set())
        return _anthropic(schema)
    except (_Unsupported, SchemaError, RecursionError):
        return None


def gemini_schema(schema: JsonObject, room: Room) -> JsonObject:
    """Return a schema in the OpenAPI subset of Gemini: references resolved, unions as anyOf, types that may be null.

    A schema that refers to itself is cut off at the inner reference: any object is allowed there.

    Raises:
        SchemaError: it is malformed, or grows beyond measure when its references are resolved.
    """
    try:
        return _gemini(schema, _Definitions(schema, room), ())
    except RecursionError:
        raise SchemaError("is nested too deeply") from None


def _check_references(
    node: Any, definitions: JsonObject, inside: tuple[str, ...], checked: set[str]
) -> None:
    if isinstance(node, list):
        for item in node:
            _check_references(item, definitions, inside, checked)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            name = _name_of(reference)
            if name in inside or name not in definitions:
                raise _Unsupported
            if name not in checked:
                _check_references(definitions[name], definitions, (*inside, name), checked)
                checked.add(name)
        for key, value in node.items():
            if key not in ("$defs", "definitions", "enum", "const", "default", "examples"):
                _check_references(value, definitions, inside, checked)


def _anthropic(node: Any) -> JsonObject:
    if not isinstance(node, dict):
        raise _Unsupported
    reduced: JsonObject = {}
    lost: JsonObject = {}
    for key, value in node.items():
        if key in ("properties", "$defs", "definitions"):
            reduced[key] = {name: _anthropic(child) for name, child in _map(node, key).items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            children = [_anthropic(child) for child in _list(node, key)]
            reduced["anyOf" if key == "oneOf" else key] = children
        elif key == "items":
            reduced[key] = _anthropic(value)
        elif (
            (key == "format" and not _is_one_of(value, _ANTHROPIC_FORMATS))
            or key in _ANTHROPIC_NOTED
            or (key == "minItems" and value not in (0, 1))
        ):
            lost[key] = value
        elif key == "patternProperties":
            raise _Unsupported
        elif key not in _ANTHROPIC_DROPPED:
            reduced[key] = value
    if "properties" in node or _has_type(node, "object"):
        if node.get("additionalProperties") or not node.get("properties"):
            raise _Unsupported
        reduced["additionalProperties"] = False
    return _noted(reduced, lost)


def _gemini(node: Any, definitions: _Definitions, inside: tuple[str, ...]) -> JsonObject:
    if not isinstance(node, dict):
        # `true` and `{}` allow anything; `false`, nothing, has no counterpart.
        return {}
    if isinstance(node.get("$ref"), str):
        name = _name_of(node["$ref"])
        if name in inside or name not in definitions:
            return {"type": "object"}
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _gemini({**definitions.resolve(name), **rest}, definitions, (*inside, name))
    node = _merged(node, definitions, inside)
    reduced: JsonObject = {key: node[key] for key in _GEMINI_KEPT if key in node}
    lost: JsonObject = {key: node[key] for key in _GEMINI_NOTED if key in node}
    _gemini_type(node, reduced, lost)
    properties = _map(node, "properties")
    if "properties" in node:
        reduced["properties"] = {
            name: _gemini(child, definitions, inside) for name, child in properties.items()
        }
    # Naming a property that is not there is refused.
    for name in _list(node, "required"):
        is_there = isinstance(name, str) and name in properties
        (reduced if is_there else lost).setdefault("required", []).append(name)
    if isinstance(node.get("items"), dict):
        reduced["items"] = _gemini(node["items"], definitions, inside)
    elif reduced.get("type") == "array":
        # An array has to say what it holds, be it anything.
        reduced["items"] = {}
    if "properties" in reduced and "anyOf" not in reduced:
        reduced.setdefault("type", "object")
    for choice in reduced.get("anyOf", ()):
        if choice["type"] == "array":
            choice["items"] = reduced.pop("items", {})
        elif choice["type"] == "object":
            # Refused beside the types, where they say nothing of the others.
            choice |= {key: reduced.pop(key) for key in _OF_OBJECTS if key in reduced}
    choices = [_gemini(child, definitions, inside) for child in _choices(node)]
    kept = [choice for choice in choices if choice.get("type") != "null"]
    if len(kept) < len(choices):
        reduced["nullable"] = True
    if len(kept) == 1:
        reduced = {**kept[0], **reduced}
    elif kept:
        reduced["anyOf"] = kept
    return _noted(reduced, lost)


def _gemini_type(node: JsonObject, reduced: JsonObject, lost: JsonObject) -> None:
    kind = node.get("type")
    if isinstance(kind, list):
        kinds = [name for name in kind if name != "null"]
        if len(kinds) < len(kind):
            reduced["nullable"] = True
        if len(kinds) == 1:
            kind = kinds[0]
        else:
            kind = None
            reduced["anyOf"] = [{"type": name} for name in kinds]
    values = [node["const"]] if "const" in node else node.get("enum")
    if isinstance(values, list):
        if None in values:
            reduced["nullable"] = True
            values = [value for value in values if value is not None]
        if values and all(isinstance(value, str) for value in values):
            # Only text can be enumerated there.
            reduced["enum"] = values
            kind = kind or "string"
        elif values:
            lost["one of"] = values
            kind = kind or _type_of(values[0])
    if kind is not None:
        reduced["type"] = kind
    form = node.get("format")
    if _is_one_of(form, _GEMINI_FORMATS):
        reduced["format"] = form
    elif form is not None:
        lost["format"] = form


def _merged(node: JsonObject, definitions: _Definitions, inside: tuple[str, ...]) -> JsonObject:
    """Return the node with the parts of its `allOf` merged into it."""
    if not isinstance(node.get("allOf"), list):
        return node
    merged = {key: value for key, value in node.items() if key != "allOf"}
    # Copies, which grow in place.
    properties, required = dict(_map(node, "properties")), list(_list(node, "required"))
    for part in node["allOf"]:
        if not isinstance(part, dict):
            continue
        name = _name_of(part["$ref"]) if isinstance(part.get("$ref"), str) else None
        if name is not None and name not in inside:
            part = {**definitions.resolve(name), **part}  # noqa: PLW2901 - the part resolved
        flat = _merged(part, definitions, inside if name is None else (*inside, name))
        for key, value in flat.items():
            if key == "properties":
                for own, child in _map(flat, key).items():
                    properties.setdefault(own, child)
                merged[key] = properties
            elif key == "required":
                required += _list(flat, key)
                merged[key] = required
            elif key != "$ref":
                merged.setdefault(key, value)
    return merged


def _map(node: JsonObject, key: str) -> JsonObject:
    """Return an object inside a schema; null, as some languages write an empty one, is empty."""
    value = node.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SchemaError(f"is not a valid JSON Schema: {key} must be an object")
    return value


def _list(node: JsonObject, key: str) -> list[Any]:
    """Return an array inside a schema; null is empty."""
    value = node.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise SchemaError(f"is not a valid JSON Schema: {key} must be an array")
    return value


def _is_one_of(value: Any, names: frozenset[str]) -> bool:
    return isinstance(value, str) and value in names


def _object(node: Any) -> JsonObject:
    return node if isinstance(node, dict) else {}


def _choices(node: JsonObject) -> list[Any]:
    choices = node.get("anyOf") or node.get("oneOf")
    return choices if isinstance(choices, list) else []


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "integer" if isinstance(value, int) else "number"


def _has_type(node: JsonObject, name: str) -> bool:
    kind = node.get("type")
    return kind == name or (isinstance(kind, list) and name in kind)


def _name_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def _noted(reduced: JsonObject, lost: JsonObject) -> JsonObject:
    """Add what was lost to the description, where the model still reads it."""
    if not lost:
        return reduced
    words = ", ".join(
        f"{key} {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in lost.items()
    )
    about = reduced.get("description")
    return {**reduced, "description": f"{about} ({words})" if about else words}
