"""docs/architecture.md: each file and function that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = re.findall(r"\| `(\S+\.py)` \| `(\S+)` \|$", PAGE, re.MULTILINE)
INLINE = [(file, name) for name, file in re.findall(r"`([\w.]+)` in `(\S+\.py)`", PAGE)]
PATHS = re.findall(r"`((?:proto|common|edge|core)/[\w./]*)`", PAGE)


def _names(file: str) -> set[str]:
    """Return the functions, classes and methods of a module."""
    found: set[str] = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_the_way_of_a_request_is_described() -> None:
    """From the edge's socket to the database and back."""
    assert len(STEPS) > 20
    assert len(INLINE) > 2


@pytest.mark.parametrize(("file", "name"), STEPS + INLINE)
def test_a_named_function_exists(file: str, name: str) -> None:
    """In the file that the page says."""
    module = ROOT / file
    assert module.is_file()
    assert name in _names(file)


@pytest.mark.parametrize("path", PATHS)
def test_a_named_path_exists(path: str) -> None:
    """Files and folders alike."""
    assert (ROOT / path).exists()
