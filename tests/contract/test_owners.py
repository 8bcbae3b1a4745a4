"""The state of a request changes in one place: its objects are read by all, and written by their own classes only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "core" / "maniac_core"
MODULES = sorted(path for room in ("services", "rpc") for path in (CORE / room).rglob("*.py"))
OWNERS = {"call", "capture", "trail", "holds"}
"""The names that these objects go by, as variables and, with or without an underscore, as attributes."""


def written_from_outside(source: str) -> Iterator[str]:
    """Yield the attributes of such objects that a module assigns or deletes, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            match node.value:
                case ast.Name(id=name) | ast.Attribute(attr=name) if name.lstrip("_") in OWNERS:
                    yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("call.rate = 1", "call.rate"),
        ("a, self._capture.steps = 1, 2", "self._capture.steps"),
        ("capture.trail.cost += 1", "capture.trail.cost"),
        ("del holds.taken", "holds.taken"),
        ("print(call.rate); self.rate = call.rate; call = 1", None),
    ],
)
def test_a_write_is_seen(source: str, found: str | None) -> None:
    """In all the ways that Python has for it."""
    assert list(written_from_outside(source)) == ([f"line 1: {found}"] if found else [])


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_only_its_own_class_writes_to_an_object_of_a_request(module: Path) -> None:
    """Whoever works on a request returns what it found, or calls a method that notes it."""
    assert not list(written_from_outside(module.read_text(encoding="utf-8")))
