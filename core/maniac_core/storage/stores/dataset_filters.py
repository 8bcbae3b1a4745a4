"""Turns the conditions of a dataset into SQL: fixed pieces, put together, with every value as a bound parameter.

A key has one expression per type of value it may hold, NULL where it holds another. So a comparison with a value of
another type is never true, whichever it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from maniac_core.domain.canonical_json import canonical_json
from maniac_core.domain.datasets import Condition, Operand, OperandType
from maniac_core.storage.base import Where

_PROMPT_TOKENS = "(CAST(c.input_tokens AS NUMERIC) + c.cache_read_tokens + c.cache_write_tokens + c.cache_write_1h_tokens)"
_COMPLETION_TOKENS = "(CAST(c.output_tokens AS NUMERIC) + c.reasoning_tokens)"
# Of `completions c` and `completion_bodies b`. `{n}` is the number of the condition.
_TEXTS = {
    "id": "c.id",
    "model": "REPLACE(c.model, ':', '/')",
    "provider": "c.provider",
    "container": "c.container_label",
    "finish_reason": "c.finish_reason",
    "trace.id": "c.trace_id",
    "trace.span_id": "c.span_id",
    "input.text": "input_text(b.input)",
    "output.text": "output_text(b.output)",
    "metadata": "text_at(c.metadata, :filter{n}_path)",
}
_COUNTS = {
    "usage.prompt_tokens": _PROMPT_TOKENS,
    "usage.completion_tokens": _COMPLETION_TOKENS,
    "usage.total_tokens": f"({_PROMPT_TOKENS} + {_COMPLETION_TOKENS})",
    "usage.cached_tokens": "c.cache_read_tokens",
    "usage.cache_write_tokens": "(c.cache_write_tokens + c.cache_write_1h_tokens)",
    "usage.reasoning_tokens": "c.reasoning_tokens",
    "usage.prompt_audio_tokens": "c.input_audio_tokens",
    "usage.completion_audio_tokens": "c.output_audio_tokens",
}
_NUMBERS = {
    "created": "c.created",
    "spend": "c.spend_nano_usd",
    **{
        key: f"CASE WHEN c.usage_source <> 'none' THEN {count} END"
        for key, count in _COUNTS.items()
    },
    "metadata": "number_at(c.metadata, :filter{n}_path)",
}
# A completion without tags has an array of none.
_ARRAYS = {
    "tags": "COALESCE(c.tags, '[]')",
    "metadata": "json_at(c.metadata, :filter{n}_path, 'array')",
}
_EXPRESSIONS: dict[OperandType, dict[str, str]] = {
    "text": _TEXTS,
    "number": _NUMBERS,
    "boolean": {"metadata": "json_at(c.metadata, :filter{n}_path, 'boolean')"},
    "array": {**_ARRAYS, "tags": "canonical_json(COALESCE(c.tags, '[]'))"},
    "object": {"metadata": "json_at(c.metadata, :filter{n}_path, 'object')"},
}
_COMPARISONS = {
    "equals": "{x} = {v}",
    "not_equals": "{x} <> {v}",
    "greater_than": "{x} > {v}",
    "less_than": "{x} < {v}",
    "greater_than_or_equal": "{x} >= {v}",
    "less_than_or_equal": "{x} <= {v}",
}
_PRESENT = {
    **{key: f"{text} IS NOT NULL" for key, text in _TEXTS.items()},
    **{key: f"{number} IS NOT NULL" for key, number in _NUMBERS.items()},
    "tags": "c.tags IS NOT NULL",
    "metadata": "is_present_at(c.metadata, :filter{n}_path) = 1",
}
# How a bound value is given its type; some databases infer it from what it is compared with.
_BOUND: dict[OperandType, str] = {
    "text": "CAST({v} AS TEXT)",
    "number": "CAST({v} AS NUMERIC)",
    "boolean": "canonical_json({v})",
    "array": "canonical_json({v})",
    "object": "canonical_json({v})",
}
_NEVER = "1 = 0"
_BODY_KEYS = frozenset({"input.text", "output.text"})
_NANO = 10**9
_encode = msgspec.json.Encoder().encode


def reads_bodies(conditions: Iterable[Condition]) -> bool:
    """Whether a condition is about the texts of bodies."""
    return any(condition.key in _BODY_KEYS for condition in conditions)


def where(conditions: Iterable[Condition]) -> Where:
    """Return the SQL for completions that fit all conditions."""
    texts: list[str] = []
    params: dict[str, Any] = {}
    for number, condition in enumerate(conditions):
        builder = _Builder(number, condition)
        texts.append(f"({builder.text()})")
        params.update(builder.params)
    return Where(" AND ".join(texts) or "1 = 1", params)


class _Builder:
    """Makes the SQL of one condition."""

    def __init__(self, number: int, condition: Condition) -> None:
        self.params: dict[str, Any] = {}
        self._number = number
        self._condition = condition
        if condition.path:
            self.params[f"filter{number}_path"] = _encode(condition.path).decode()

    def text(self) -> str:
        """Return the SQL."""
        condition = self._condition
        present = _PRESENT[condition.key].replace("{n}", str(self._number))
        match condition.operator:
            case "exists":
                return present
            case "not_exists":
                return f"NOT ({present})"
            case "contains" | "not_contains":
                return self._either(self._containments(condition.operands[0]))
            case "in" | "not_in":
                if not condition.operands:
                    return present if condition.operator == "not_in" else _NEVER
                return self._either(self._memberships())
            case "between":
                return self._between()
            case _:
                operand = condition.operands[0]
                expression = self._expression(operand.type)
                if expression is None:
                    return _NEVER
                comparison = _COMPARISONS[condition.operator]
                return comparison.format(x=expression, v=self._bind(operand))

    def _expression(self, kind: OperandType) -> str | None:
        expression = _EXPRESSIONS[kind].get(self._condition.key)
        return None if expression is None else expression.replace("{n}", str(self._number))

    def _containments(self, operand: Operand) -> Iterator[str]:
        """Yield what holds for a text with a part, and for an array with an element; or, of either, without."""
        is_wanted = self._condition.operator == "contains"
        text = self._expression("text") if operand.type == "text" else None
        if text is not None:
            yield f"INSTR({text}, {self._bind(operand)}) {'> 0' if is_wanted else '= 0'}"
        array = self._expression("array")
        if array is not None:
            member = _BOUND["text"].format(v=self._parameter(_canonical(operand)))
            yield f"has_member({array}, {member}) = {1 if is_wanted else 0}"

    def _memberships(self) -> Iterator[str]:
        """Yield, for each type among the operands, what holds for a value of it that is one of them, or is none."""
        by_type: dict[OperandType, list[Operand]] = {}
        for operand in self._condition.operands:
            by_type.setdefault(operand.type, []).append(operand)
        operator = "IN" if self._condition.operator == "in" else "NOT IN"
        for kind, operands in by_type.items():
            expression = self._expression(kind)
            if expression is not None:
                names = ", ".join(self._bind(operand) for operand in operands)
                yield f"{expression} {operator} ({names})"

    def _between(self) -> str:
        low, high = self._condition.operands
        expression = self._expression(low.type)
        if expression is None:
            return _NEVER
        return f"{expression} BETWEEN {self._bind(low)} AND {self._bind(high)}"

    @staticmethod
    def _either(texts: Iterator[str]) -> str:
        return " OR ".join(texts) or _NEVER

    def _bind(self, operand: Operand) -> str:
        value = operand.value
        if self._condition.key == "model" and isinstance(value, str):
            # Both separators of a slug are the same.
            value = value.replace(":", "/")
        elif self._condition.key == "spend" and not isinstance(value, str):
            value = _nano(value)
        return _BOUND[operand.type].format(v=self._parameter(value))

    def _parameter(self, value: str | float) -> str:
        name = f"filter{self._number}_{len(self.params)}"
        self.params[name] = value
        return f":{name}"


def _nano(usd: float) -> float:
    """Return an amount in nano-USD, exactly if it is a whole number of them."""
    exact = Decimal(repr(usd)) * _NANO
    return (
        int(exact) if exact == exact.to_integral_value() and abs(exact) < 1 << 63 else float(exact)
    )


def _canonical(operand: Operand) -> str:
    """Return an operand as canonical JSON."""
    if operand.type in ("text", "number"):
        return canonical_json(operand.value).decode()
    return str(operand.value)
