"""What a user can get wrong is told in one line: what, where, and what to do. No command shows a traceback for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest
import trustme
from maniac_core.local import pull as pulling

Run = Callable[..., CompletedProcess[str]]
_COMMAND = (sys.executable, "-m", "maniac_core.cli.main")
_NOBODY = 65534
_PR_CAPBSET_DROP = 24
_CAPABILITIES = (1, 2, 3)
"""What lets root use what is not its own: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER."""


def _one_line(result: CompletedProcess[str]) -> str:
    lines = (result.stdout + result.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    assert "[Errno" not in lines[0]
    return lines[0]


def _as_somebody_else(*arguments: str, cwd: Path) -> CompletedProcess[str]:
    """Run a command as a user who may not use what belongs to nobody."""

    def drop() -> None:
        if os.geteuid() == 0:
            for capability in _CAPABILITIES:
                ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)

    return subprocess.run(
        [*_COMMAND, *arguments],
        check=False,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("MANIAC_")},
        capture_output=True,
        text=True,
        preexec_fn=drop,
    )


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A data folder that this user may not look into: another's, or for want of one its own without any right."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "gateway.db").touch()
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize(
    "command", ["serve", "core", "migrate", "keys list", "usage", "pull smollm2-135m-instruct"]
)
def test_a_data_folder_of_another_owner(foreign: Path, tmp_path: Path, command: str) -> None:
    """The folder is named, whose it is, and the ways out."""
    refused = _as_somebody_else(*command.split(), f"--data-dir={foreign}", cwd=tmp_path)
    line = _one_line(refused)
    assert refused.returncode == 1
    assert str(foreign) in line
    assert "permission denied" in line
    assert "--data-dir" in line or "chmod" in line


def test_doctor_and_check_config_bear_such_a_folder(foreign: Path, tmp_path: Path) -> None:
    """The one finds the fault among others, the other does not need the folder."""
    report = _as_somebody_else("doctor", f"--data-dir={foreign}", cwd=tmp_path)
    assert report.returncode == 1
    faults = [line for line in report.stdout.splitlines() if line.startswith("fail")]
    assert any(line.startswith("fail  data folder: ") for line in faults), report.stdout
    assert any(line.startswith("fail  database: ") for line in faults), report.stdout
    assert report.stderr == ""
    shown = _as_somebody_else("check-config", f"--data-dir={foreign}", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("command", ["serve", "core", "migrate", "keys list"])
@pytest.mark.parametrize("folder", ["file", "file/below"])
def test_a_data_folder_that_is_a_file(run: Run, tmp_path: Path, command: str, folder: str) -> None:
    """Whatever the command, it is named."""
    (tmp_path / "file").touch()
    refused = run(*command.split(), f"--data-dir={folder}")
    assert refused.returncode == 1
    assert f"{folder}: " in _one_line(refused) or f"{folder}/gateway.db: " in _one_line(refused)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[core", "not valid TOML"),
        (b"\xff\xfe[", "not text in UTF-8"),
        (b"core = 3", "[core]: is not a table"),
        (b"providers = 3", "[providers]: is not a table"),
        (b"[providers]\nmine = 3", "[providers.mine]: is not a table"),
        (b"[core]\ndata_dir = ''", "data_dir"),
        (b"[core]\nlocal_model = '~no-such-user/model.gguf'", "there is no such user"),
        (b"[core]\nredis_url = 'localhost:6379'", "`redis://`"),
        (b"[core]\nredis_url = 'redis://localhost:port'", "redis_url"),
        (b"[core]\ndatabase_url = 'postgresql://u:hunter/2@h/db'", "database_url"),
        (b"[core]\nobject_store_url = 's3://b'\nobject_store_endpoint = 'minio:9000'", "`http://`"),
    ],
)
def test_a_configuration_that_cannot_be_read(
    run: Run, tmp_path: Path, content: bytes, said: str
) -> None:
    """The file is named, and no secret in it is shown."""
    file = tmp_path / "wrong.toml"
    file.write_bytes(content)
    refused = run("keys", "list", f"--config={file}")
    line = _one_line(refused)
    assert refused.returncode == 2
    assert said in line
    assert "hunter" not in line


def test_a_configuration_that_is_a_folder_or_not_there(run: Run, tmp_path: Path) -> None:
    """Both sides say so alike."""
    for command in ("keys list", "edge"):
        assert "Is a directory" in _one_line(run(*command.split(), f"--config={tmp_path}"))
        assert "no such file" in _one_line(run(*command.split(), "--config=nowhere.toml"))


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9000/v1",
        "localhost:9000",
        "//host/v1",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://me:hun/ter@host/v1",
        "me:hun/ter@host/v1",
        "http://me:x hun/ter@host/v1",
        "https://host/v1#part",
        "http://[::1/v1",
        "http://ho st/v1",
    ],
)
def test_an_address_that_nothing_could_be_sent_to(run: Run, tmp_path: Path, url: str) -> None:
    """It is refused with its line, before any request is."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[providers.mine]\nkind = 'openai'\nbase_url = '{url}'\n")
    refused = run("check-config", f"--config={file}")
    line = _one_line(refused)
    assert refused.returncode == 1
    assert f"{file}, line 3: [providers.mine]: `base_url` is '" in line
    assert "hun/ter" not in line


@pytest.mark.parametrize(("kind", "status"), [("openai", 0), ("anthropic", 1), ("gemini", 1)])
def test_a_query_is_for_the_kind_that_sends_it(
    run: Run, tmp_path: Path, kind: str, status: int
) -> None:
    """The others would send requests that fail, and refuse it instead; it is never shown."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[providers.mine]\nkind = '{kind}'\nbase_url = 'https://h/v1?k=hunter2'\n")
    checked = run("check-config", f"--config={file}")
    assert checked.returncode == status
    assert "hunter2" not in checked.stdout + checked.stderr
    if status:
        assert f"whose query is not sent by kind `{kind}`" in _one_line(checked)


def test_a_hint_leads_to_the_same_data_folder(run: Run) -> None:
    """A command that is to be run next carries the options of the one before."""
    refused = run("keys", "list", "--data-dir=else where")
    assert "`maniac-gateway migrate --data-dir 'else where'`" in _one_line(refused)
    assert run("migrate", "--data-dir=else where").returncode == 0
    assert run("keys", "list", "--data-dir=else where").returncode == 0


def test_a_database_that_is_none_or_of_a_newer_version(run: Run, tmp_path: Path) -> None:
    """Commands and `serve` say which file it is and what is the matter."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gateway.db").write_bytes(b"this is no database" * 1000)
    for command in ("serve --port=0 --grpc-port=0", "keys list", "migrate"):
        line = _one_line(run(*command.split()))
        assert "gateway.db: " in line
        assert "not a database" in line


def test_a_database_that_another_program_writes(run: Run, tmp_path: Path) -> None:
    """After a while it is said, with nothing of what the storage logs."""
    assert run("migrate").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "gateway.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = run("keys", "create")
    assert refused.returncode == 1
    assert "database is locked" in _one_line(refused)


def test_a_damaged_database_is_named(run: Run, tmp_path: Path) -> None:
    """As one of a newer version is."""
    assert run("migrate").returncode == 0
    file = tmp_path / "data" / "gateway.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    for command in ("keys list", "migrate", "serve --port=0 --grpc-port=0"):
        line = _one_line(run(*command.split()))
        assert "gateway.db: " in line
        assert "malformed; restore a backup" in line
    file.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '', 0)")
        other.commit()
    for command in ("keys list", "migrate", "serve --port=0 --grpc-port=0"):
        assert "was written by a newer version" in _one_line(run(*command.split()))


def test_a_full_disk_is_not_taken_for_the_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before pip is asked nor when pip meets it."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=50_000_000))
    with pytest.raises(pulling.PullError, match="50 MB are free, and 196 MB are needed"):
        pulling.pull("smollm2-135m-instruct", tmp_path / "models")
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(
        "raise SystemExit('ERROR: Could not install: [Errno 28] No space left on device')"
    )
    failed = run("pull", "smollm2-135m-instruct", PYTHONPATH=str(tmp_path))
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert "no room is left" in last
    assert "network" not in last


def test_a_python_without_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it needs pip for, and how to get it."""
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(pulling.PullError, match=r"has no pip.*ensurepip"):
        pulling.pull("smollm2-135m-instruct", tmp_path / "models")


def test_a_reader_that_has_seen_enough(tmp_path: Path, environ: dict[str, str]) -> None:
    """A closed pipe ends a command without a word."""
    shown = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m maniac_core.cli.main check-config | true"],
        check=False,
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert shown.stderr == ""


@pytest.fixture
def certificates(tmp_path: Path) -> None:
    """Make a certificate, a key of another one, and a file that is neither."""
    authority = trustme.CA()
    one, other = authority.issue_cert("core"), authority.issue_cert("core")
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    (tmp_path / "text.pem").write_text("no certificate")


@pytest.mark.usefixtures("certificates")
@pytest.mark.parametrize("command", ["serve", "check-config", "doctor", "core"])
@pytest.mark.parametrize(
    ("settings", "variables", "problem", "remedy"),
    [
        ("tls_cert = 'none.pem'\ntls_key = 'other.pem'", {}, "none.pem cannot be read", "tls_cert"),
        ("tls_cert = 'cert.pem'\ntls_key = 'text.pem'", {}, "text.pem is not a PEM", "tls_key"),
        ("tls_cert = 'cert.pem'\ntls_key = 'other.pem'", {}, "cannot be used together", "tls_key"),
        ("redis_url = 'http://x'", {}, "redis_url", "redis://"),
        ("", {"MANIAC_EDGE_KEY": "short"}, "MANIAC_EDGE_KEY is shorter", "openssl rand"),
        (
            "",
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "set http/protobuf",
        ),
    ],
)
def test_what_a_core_cannot_start_with_is_said_before(  # noqa: PLR0917 - a table
    run: Run,
    tmp_path: Path,
    command: str,
    settings: str,
    variables: dict[str, str],
    problem: str,
    remedy: str,
) -> None:
    """No child is started that would only end again."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"[core]\nlocal_model = 'off'\nlisten = '127.0.0.1:0'\n{settings}\n")
    refused = run(command, "--config", str(file), **variables)
    assert refused.returncode
    if command == "doctor":
        [line] = [
            line for line in refused.stdout.splitlines() if line.startswith("fail  configuration")
        ]
    else:
        line = _one_line(refused)
    assert problem in line
    assert remedy in line
