"""docs/operations.md: each row about something that is down names a test, and each test it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
_SECTION = _PAGE.partition("\n## When something is down\n")[2].partition("\n## ")[0]
_ROWS = [line for line in _SECTION.splitlines() if line.startswith("| ")][1:]
_NAME = re.compile(r"\| `(test_\w+)` \|$")


def test_there_is_a_table() -> None:
    """The page has rows to check."""
    assert len(_ROWS) > 10


@pytest.mark.parametrize("row", _ROWS)
def test_each_row_is_backed_by_a_test(row: str, tests: set[str]) -> None:
    """A row ends with the name of a test that exists."""
    named = _NAME.search(row)
    assert named is not None, "no test named"
    assert named[1] in tests
