"""Writes TOML: tables of texts, numbers, booleans, and lists and tables of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def render(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Return the text of tables; the first dot of a table's name separates its two parts."""
    return "".join(
        f"\n[{_path(name)}]\n"
        + "".join(f"{_key(key)} = {_value(item)}\n" for key, item in table.items())
        for name, table in tables.items()
    )


def _path(name: str) -> str:
    first, dot, rest = name.partition(".")
    return f"{_key(first)}.{_key(rest)}" if dot else _key(first)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            # A JSON text is a TOML text, but for one character that TOML wants escaped.
            return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case Mapping():
            inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
            return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"no TOML for {type(value).__name__}")
