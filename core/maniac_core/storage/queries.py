"""Reads the named statements of `sql/queries.sql` and `sql/queries/*.sql`, and expands the lines that repeat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal

from maniac_core.storage.base import Params, Where

Dialect = Literal["sqlite", "postgres"]
_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_FRAGMENT = re.compile(r"\{(?!n\})(\w+)\}")
_EACH = re.compile(r"^(.*?) *-- each (\w+)$")
_FILTERS = "1 = 1 -- and filters"


class Queries:
    """Statements by name, with `:name` parameters (`?` in those that are executed by the thousand).

    The text of a statement is preceded by `-- name: NAME` and one line of comment. `{NAME}` stands for the text of an
    earlier statement; what is nothing but such a part has a comment that begins with `Part of others`. Other lines of
    comment are left out. A line that ends in `-- each items` is repeated for every item of the parameter `items`, with
    `:items_{n}` naming the item.
    `1 = 1 -- and filters` stands for the condition of the parameter `filters`, a Where.

    `own` has the statements of one engine; they take the place of the shared ones of the same name.
    """

    def __init__(self, text: str, own: str = "") -> None:
        self._texts: dict[str, str] = {}
        self._parts: set[str] = set()
        self._repeats: dict[str, str] = {}
        self._expanded: dict[tuple[str, int], str] = {}
        instead = _bodies(own)
        for name, body in _bodies(text).items():
            self._add(name, instead.pop(name, body))
        for name, body in instead.items():
            self._add(name, body)

    @classmethod
    def load(cls, dialect: Dialect) -> Queries:
        """Return the statements that ship with this package, as that engine takes them."""
        folder = resources.files("maniac_core.storage") / "sql"
        shared = _read(folder / "queries.sql") + "\n" + _read_all(folder / "queries")
        own = folder / "queries" / dialect
        return cls(shared, _read_all(own) if own.is_dir() else "")

    def _add(self, name: str, body: str) -> None:
        comment, _, statement = body.partition("\n")
        if not comment.startswith("-- ") or not statement:
            raise ValueError(f"queries.sql: {name}: without a comment, or empty")
        if comment.startswith("-- Part of others"):
            self._parts.add(name)
        statement = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
        text = _FRAGMENT.sub(lambda match: self._texts[match[1]], statement).strip()
        self._texts[name] = text
        for line in text.splitlines():
            if each := _EACH.match(line):
                self._repeats[name] = each[2]

    def names(self) -> list[str]:
        """Return the names in the order of the files, without those of parts."""
        return [name for name in self._texts if name not in self._parts]

    def text(self, name: str) -> str:
        """Return a statement that has no repeated lines."""
        return self._texts[name]

    def repeated(self, name: str, rows: int) -> str:
        """Return an INSERT with its list of values so many times: one step of the engine for all these rows."""
        text = self._expanded.get((name, rows))
        if text is None:
            head, keyword, values = self._texts[name].rpartition("VALUES ")
            text = f"{head}{keyword}{', '.join([values] * rows)}"
            self._expanded[name, rows] = text
        return text

    def bind(self, name: str, params: Params) -> tuple[str, Params]:
        """Return the text and its parameters, with repeated lines expanded."""
        repeat = self._repeats.get(name)
        filters = params.get("filters")
        if isinstance(filters, Where):
            others = {key: value for key, value in params.items() if key != "filters"}
            return self._texts[name].replace(_FILTERS, filters.text), {**others, **filters.params}
        if repeat is None:
            # sqlite3 takes a dictionary only, and NO_PARAMS is a read-only view.
            return self._texts[name], dict(params)
        items: Sequence[Any] = params.get(repeat, ())
        expanded = self._expanded.get((name, len(items)))
        if expanded is None:
            expanded = self._expanded[name, len(items)] = self._expand(name, len(items))
        flat = {key: value for key, value in params.items() if key != repeat}
        flat.update({f"{repeat}_{n}": item for n, item in enumerate(items)})
        return expanded, flat

    def _expand(self, name: str, count: int) -> str:
        lines: list[str] = []
        for line in self._texts[name].splitlines():
            each = _EACH.match(line)
            if each is None:
                lines.append(line)
            else:
                lines += [each[1].replace("{n}", str(n)) for n in range(count)]
        return "\n".join(lines)


def _bodies(text: str) -> dict[str, str]:
    """Return comment and text of each statement, by name."""
    parts = _HEADER.split(text)
    bodies: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in bodies:
            raise ValueError(f"queries.sql: {name}: repeated")
        bodies[name] = body.strip()
    return bodies


def _read_all(folder: Traversable) -> str:
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return "\n".join(_read(file) for file in sorted(files, key=lambda file: file.name))


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8")
