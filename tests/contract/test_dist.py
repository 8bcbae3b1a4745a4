"""The wheel: it installs into an empty environment, and what it installs runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MINORS = range(11, 15)
_TREE = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "proto",
    "common",
    "core",
    "edge",
    "docs",
)


def _interpreter(minor: int) -> str | None:
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    found = shutil.which(f"python3.{minor}")
    # A version manager puts names into the PATH that stand for nothing.
    works = found and subprocess.run([found, "-c", ""], check=False, capture_output=True)
    return found if works and works.returncode == 0 else None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built as `make dist` does, by way of the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    for name in _TREE:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / name)
    _hatch(tree, "sdist", folder)
    (archive,) = folder.glob("*.tar.gz")
    (folder / "unpacked").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", folder / "unpacked"], check=True)
    (unpacked,) = (folder / "unpacked").iterdir()
    _hatch(unpacked, "wheel", folder)
    (built,) = folder.glob("*.whl")
    return built


def _hatch(tree: Path, target: str, folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, check=True, cwd=tree, capture_output=True)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("minor", _MINORS, ids=lambda minor: f"3.{minor}")
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path, minor: int) -> None:
    """On every Python that is here: the command starts, checks a configuration and makes a database and a key."""
    python = _interpreter(minor)
    if python is None:
        pytest.skip(f"there is no python3.{minor} here")
    environment = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    installed = subprocess.run(
        [*pip, "install", "--quiet", "--no-compile", str(wheel)],
        check=False,
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        # The last line; those above it are of each attempt.
        said = installed.stderr.strip().rpartition("\n")[2]
        reason = f"the package index cannot be reached: {said}"
        if os.environ.get("MANIAC_TEST_REQUIRE_SERVICES") or "No matching" not in reason:
            pytest.fail(reason)
        pytest.skip(reason)

    assert _run(environment, tmp_path, "--version") == "maniac-gateway 0.1.0\n"
    assert '"providers": {}' in _run(environment, tmp_path, "check-config")
    _run(environment, tmp_path, "migrate")
    assert _run(environment, tmp_path, "keys", "create").startswith("mk-")


def _run(environment: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "maniac-gateway", *arguments],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
