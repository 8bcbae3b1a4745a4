"""docs/streams.md: each of its statements names a test, and each test it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATEMENTS = [
    line
    for line in (ROOT / "docs" / "streams.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("- ")
]
_NAME = re.compile(r"`(test_\w+)`$")


def test_there_is_a_contract() -> None:
    """The page has statements to check."""
    assert len(STATEMENTS) > 40


@pytest.mark.parametrize("statement", STATEMENTS)
def test_each_statement_is_backed_by_a_test(statement: str, tests: set[str]) -> None:
    """A list item ends with the name of a test that exists."""
    named = _NAME.search(statement)
    assert named is not None, "no test named"
    assert named[1] in tests
