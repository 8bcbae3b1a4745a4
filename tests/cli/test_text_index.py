"""`maniac-gateway drop-text-index`, and what is refused while there is an index of texts."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]

_KEY = {"MANIAC_BODY_KEY": base64.b64encode(b"k" * 32).decode()}


@pytest.fixture
def file(run: Run, tmp_path: Path) -> Path:
    """Return a database with something in its index."""
    assert run("migrate", MANIAC_CORE__TEXT_INDEX="true").returncode == 0
    [file] = (tmp_path / "data").glob("*.db")
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("INSERT INTO text_index (rowid, text) VALUES (1, 'a secret')")
        opened.execute("UPDATE text_index_state SET covered = 1")
    return file


def _state(file: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(file)) as opened:
        [[texts]] = opened.execute("SELECT COUNT(*) FROM text_index").fetchall()
        [[covered]] = opened.execute("SELECT covered FROM text_index_state").fetchall()
    return texts, covered


def test_it_is_dropped(run: Run, file: Path) -> None:
    """The command says so, says that the setting would make it again, and may be repeated."""
    assert _state(file) == (1, 1)
    dropped = run("drop-text-index", MANIAC_CORE__TEXT_INDEX="true")
    assert dropped.returncode == 0, dropped.stderr
    assert dropped.stdout.startswith("The index of texts is dropped. Unset [core] text_index")
    assert _state(file) == (0, 0)
    again = run("drop-text-index")
    assert (again.returncode, again.stdout) == (0, "The index of texts is dropped.\n")


@pytest.mark.usefixtures("file")
def test_bodies_are_not_encrypted_beside_it(run: Run) -> None:
    """It would go on holding what is to be protected; dropped, nothing is in the way."""
    refused = run("encrypt-bodies", **_KEY)
    assert refused.returncode != 0
    assert "run `maniac-gateway drop-text-index` first" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("drop-text-index").returncode == 0
    sealed = run("encrypt-bodies", **_KEY)
    assert (sealed.returncode, sealed.stdout) == (
        0,
        "encrypted 0 completions with the first key\n",
    )
