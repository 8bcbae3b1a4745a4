"""The Makefile's installing, on a pip that answers as told: what is tried again, and what is given up."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_STUB = """#!/bin/sh
echo "$@" >> calls.txt
case "$* " in
  *--platform*) exit $FOREIGN ;;
  *--dry-run*) exit $OWN ;;
  *local]*) exit $LOCAL ;;
  *) exit 0 ;;
esac
"""
_GATEWAY = "#!/bin/sh\necho served\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with what make reads, and an environment of scripts."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(_ROOT / name, tmp_path)
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in (("python", _STUB), ("maniac-gateway", _GATEWAY)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    return tmp_path


def _make_run(
    tree: Path, *, local: int, own: int, foreign: int
) -> subprocess.CompletedProcess[str]:
    statuses = {"LOCAL": str(local), "OWN": str(own), "FOREIGN": str(foreign)}
    return subprocess.run(
        ["make", "run"],
        check=False,
        cwd=tree,
        env={"PATH": os.environ["PATH"], **statuses},
        capture_output=True,
        text=True,
    )


def _calls(tree: Path) -> list[str]:
    return (tree / "calls.txt").read_text().splitlines()


def test_what_is_installed_is_not_installed_again(tree: Path) -> None:
    """One call of pip, and then none."""
    for _ in range(2):
        made = _make_run(tree, local=0, own=0, foreign=0)
        assert made.returncode == 0, made.stderr
        assert "served" in made.stdout
    assert len(_calls(tree)) == 1
    assert "--editable .[local]" in _calls(tree)[0]


def test_without_a_wheel_for_this_machine_it_serves_and_tries_again(tree: Path) -> None:
    """The index offers llama.cpp to another machine and not to this one: each `make run` looks again."""
    for _ in range(2):
        made = _make_run(tree, local=1, own=1, foreign=0)
        assert made.returncode == 0, made.stderr
        assert "no llama.cpp wheel for this machine" in made.stdout
        assert "served" in made.stdout
    assert len([call for call in _calls(tree) if "local]" in call]) == 2

    assert _make_run(tree, local=0, own=0, foreign=0).returncode == 0
    assert _calls(tree)[-1].endswith("--editable .[local]")


@pytest.mark.parametrize(("own", "foreign"), [(1, 1), (0, 0), (0, 1)])
def test_a_failure_of_the_index_is_not_taken_for_a_missing_wheel(
    tree: Path, own: int, foreign: int
) -> None:
    """It ends make with a line that says so, installs no less, and the next run installs all."""
    made = _make_run(tree, local=1, own=own, foreign=foreign)
    assert made.returncode != 0
    assert "could not be installed" in made.stderr
    assert "served" not in made.stdout
    assert not any(call.endswith("--editable .") for call in _calls(tree))

    again = _make_run(tree, local=0, own=0, foreign=0)
    assert again.returncode == 0
    assert "served" in again.stdout
