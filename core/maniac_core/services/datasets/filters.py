"""Filters of datasets: from what was given to conditions that the storage can take, or exact errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec

from maniac_core.domain.canonical_json import canonical_json
from maniac_core.domain.containers import Container
from maniac_core.domain.datasets import (
    COLUMN_KEYS,
    Condition,
    DatasetFilter,
    Operand,
    OperandType,
    Operator,
)
from maniac_core.domain.errors import Violation
from maniac_core.services.routing.containers import bare_label

_OPERATORS: tuple[Operator, ...] = get_args(Operator)
_NO_VALUE = frozenset({"exists", "not_exists"})
_OF_BODIES = frozenset({"input.text", "output.text"})
_LISTS = frozenset({"in", "not_in", "between"})
_PARTS = frozenset({"contains", "not_contains"})
_ORDERS = frozenset(
    {
        *("greater_than", "less_than", "greater_than_or_equal", "less_than_or_equal"),
        "between",
    }
)
_ORDERED: frozenset[OperandType] = frozenset({"text", "number"})
_INT64 = 1 << 63
_MAX_FILTERS = 32
_MAX_OPERANDS = 1_000
"""Over all filters of a dataset: every completion that is looked at is compared with every value."""
# Other forms of ISO 8601, such as weeks, are refused rather than guessed.
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_decode = msgspec.json.Decoder().decode


class FilterError(Exception):
    """The mistake in one filter."""

    def __init__(self, field: str, message: str, kind: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.kind = kind


def conditions_of(
    filters: Sequence[DatasetFilter], container: Container, *, searches_bodies: bool = True
) -> tuple[list[Condition], list[Violation]]:
    """Return the conditions that filters on a container's completions stand for, and what is wrong with the others.

    `searches_bodies`: whether the database can look into what was asked and answered.
    """
    violations: list[Violation] = []
    if len(filters) > _MAX_FILTERS:
        message = f"must be at most {_MAX_FILTERS}: leave out those that others imply"
        return [], [Violation(("body", "filters"), message, "too_long")]
    conditions: list[Condition] = []
    for index, given in enumerate(filters):
        if given.key in _OF_BODIES and not searches_bodies:
            loc = ("body", "filters", index, "key")
            message = f"{given.key!r} cannot be searched: requests and answers are encrypted here"
            violations.append(Violation(loc, message, "unsupported"))
            continue
        try:
            conditions.append(_condition(given, container))
        except FilterError as err:
            loc = ("body", "filters", index, err.field)
            violations.append(Violation(loc, err.message, err.kind))
    if sum(len(condition.operands) for condition in conditions) > _MAX_OPERANDS:
        message = (
            f"must have at most {_MAX_OPERANDS} values in all: make several datasets, or give what belongs together"
            " a tag and filter by it"
        )
        violations.append(Violation(("body", "filters"), message, "too_long"))
    return conditions, violations


def kept_form(given: DatasetFilter) -> DatasetFilter:
    """Return a valid filter as it is kept: without a value that its operator ignores, and that may be anything."""
    if given.operator not in _NO_VALUE:
        return given
    return DatasetFilter(key=given.key, operator=given.operator)


def _condition(given: DatasetFilter, container: Container) -> Condition:
    key, path = _key(given.key)
    operator = next((known for known in _OPERATORS if known == given.operator), None)
    if operator is None:
        raise FilterError("operator", f"must be one of {', '.join(_OPERATORS)}", "enum")
    operands = tuple(
        _own_form(operand, key, operator, container) for operand in _operands(given, operator)
    )
    return Condition(key=key, path=path, operator=operator, operands=operands)


def _key(key: str) -> tuple[str, tuple[str, ...]]:
    if key in COLUMN_KEYS:
        return key, ()
    root, _, rest = key.partition(".")
    path = tuple(rest.split("."))
    if root != "metadata" or not all(path):
        keys = ", ".join(sorted(COLUMN_KEYS))
        raise FilterError("key", f"must be one of {keys} or metadata.PATH", "enum")
    return root, path


def _operands(given: DatasetFilter, operator: Operator) -> Iterator[Operand]:
    if operator in _NO_VALUE:
        return
    try:
        value: Any = _decode(given.value)
    except (ValueError, RecursionError) as err:
        raise FilterError("value", "is not valid JSON", "json_invalid") from err
    if value is None:
        raise FilterError("value", f"is required for {operator}", "missing")
    values = [value]
    if operator in _LISTS:
        if not isinstance(value, list):
            raise FilterError("value", f"must be an array for {operator}", "list_type")
        values = value
    operands = [_operand(element) for element in values]
    if operator in _ORDERS and any(operand.type not in _ORDERED for operand in operands):
        raise FilterError("value", f"must be a text or a number for {operator}", "value_error")
    if operator == "between" and (len(operands) != 2 or operands[0].type != operands[1].type):
        raise FilterError(
            "value", "must be [low, high], two texts or two numbers, for between", "value_error"
        )
    yield from operands


def _operand(value: Any) -> Operand:
    match value:
        case bool():
            return Operand("boolean", "true" if value else "false")
        case int() | float():
            return Operand("number", _number(value))
        case str():
            return Operand("text", value)
        case list() | dict():
            kind: OperandType = "array" if isinstance(value, list) else "object"
            return Operand(kind, canonical_json(value).decode())
        case _:
            raise FilterError("value", "must not have null in it", "value_error")


def _number(value: float) -> float:
    """Return a number that databases can hold."""
    if isinstance(value, float) or -_INT64 <= value < _INT64:
        return value
    try:
        return float(value)
    except OverflowError as err:
        raise FilterError("value", "is out of range", "value_error") from err


def _own_form(operand: Operand, key: str, operator: Operator, container: Container) -> Operand:
    """Return an operand in the form that the key's values have."""
    value = operand.value
    if not isinstance(value, str) or operand.type != "text" or operator in _PARTS:
        return operand
    if key == "created":
        return Operand("number", _seconds(value))
    if key == "container":
        return Operand("text", container.label if value == container.id else bare_label(value))
    return operand


def _seconds(text: str) -> float:
    """Return an ISO 8601 time as Unix seconds; without an offset it is in UTC."""
    message = "must be Unix seconds or an ISO 8601 time"
    if _TIME.fullmatch(text) is None:
        raise FilterError("value", message, "datetime")
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as err:
        raise FilterError("value", message, "datetime") from err
