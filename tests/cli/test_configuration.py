"""Commands that look at the configuration: `check-config`, `doctor`, and refusals by every command."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
_EXAMPLE = Path(__file__).parents[2] / "gateway.example.toml"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[core]\nrate_limt = 3", "rate_limt"),
        ("[edge]\nprot = 3", "prot"),
        ("[core]\nrate_limit = 'many'", "rate_limit"),
        ("[core]\nrate_limit = -1", "rate_limit"),
        ("[core]\nrate_window_s = 0", "rate_window_s"),
        ("[edge]\nport = 70000", "port"),
        ("[edge]\ncore = 'ipv4:10.0.0.1:4141,10.0.0.2'", "'10.0.0.2' is not HOST:PORT"),
        ("[edge]\nkeep_alive_comment_s = 0", "keep_alive_comment_s"),
        ("[providers.mine]\nkind = 'scripted'\nmax_retries = -1", "max_retries"),
        ("[providers.mine]\nkind = 'scripted'\ntimeouts = { idle_s = 0 }", "idle_s"),
        ("[providers.mine]\nkind = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'", "model"),
        ("[cores]", "[cores]"),
        ("[core]\nlisten = 'somewhere'", "listen"),
        ("[core]\nmetrics_listen = '9464'", "metrics_listen"),
        ("[edge]\nmetrics_listen = '127.0.0.1:99999'", "metrics_listen"),
        ("[core", "not valid TOML"),
    ],
)
def test_wrong_key_is_named(run: Run, tmp_path: Path, text: str, named: str) -> None:
    """check-config says what is wrong with status 1, and serve refuses to start with status 2."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    for command, status in (("check-config", 1), ("serve", 2)):
        refused = run(command, "--config", str(file))
        assert refused.returncode == status
        assert named in refused.stderr
        assert "Traceback" not in refused.stderr


def test_wrong_variable_is_named(run: Run) -> None:
    """Environment overrides are checked like the file."""
    refused = run("check-config", MANIAC_CORE__RATE_LIMIT="many")
    assert refused.returncode == 1
    assert "rate_limit" in refused.stderr


def test_example_file_is_complete_and_holds_the_defaults(run: Run) -> None:
    """Every key of both tables stands in the example, and without the file the same is in force."""
    example = run("check-config", "--config", str(_EXAMPLE))
    assert example.returncode == 0, example.stderr
    document, defaults = json.loads(example.stdout), json.loads(run("check-config").stdout)
    assert document.pop("source") == str(_EXAMPLE)
    assert defaults.pop("source") is None
    assert document == defaults
    text = _EXAMPLE.read_text()
    for table in ("core", "edge"):
        for key in set(document[table]) - {"internal_key"}:
            assert f"\n{key} = " in text or f"\n# {key} = " in text, key


def test_secrets_are_masked(run: Run, tmp_path: Path) -> None:
    """Neither keys nor passwords in addresses are printed, but whether they are set is."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[providers.mine]\nkind = 'openai'\nbase_url = 'http://me:hunter2@host/v1'\n"
        "api_key_env = ['FIRST', 'SECOND']"
    )
    shown = run("check-config", "--config", str(file), FIRST="sesame", MANIAC_INTERNAL_KEY="inner")
    for secret in ("sesame", "inner", "hunter2"):
        assert secret not in shown.stdout
    document = json.loads(shown.stdout)
    assert document["providers"]["mine"]["api_key"] == ["***"]
    assert document["core"]["internal_key"] == "***"


def test_doctor_is_content_with_a_fresh_folder(run: Run) -> None:
    """What is only not there yet is a warning, and nothing is made by looking."""
    healthy = run("doctor", MANIAC_EDGE__PORT="0", MANIAC_CORE__LISTEN="127.0.0.1:0")
    assert healthy.returncode == 0, healthy.stdout
    assert "warn  data folder" in healthy.stdout
    assert "warn  providers: none" in healthy.stdout
    assert "fail" not in healthy.stdout


def test_doctor_names_every_fault(run: Run, tmp_path: Path) -> None:
    """A missing key, a dead provider, a file that is no model, a broken database and a taken port: a line each."""
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data" / "gateway.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "data" / "spool").mkdir()
    (tmp_path / "data" / "spool" / "set-aside.jsonl").write_text("one\ntwo\n")
    (tmp_path / "text.gguf").write_text("no model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "gateway.toml"
        file.write_text(
            "[core]\nlocal_model = 'text.gguf'\nlisten = '127.0.0.1:0'\n"
            f"[edge]\nport = {port}\nmetrics_listen = '127.0.0.1:{port}'\n"
            "[providers.keyless]\nkind = 'openai'\nbase_url = 'http://h/v1'\napi_key_env = 'NOT_SET'\n"
            "[providers.dead]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\n"
        )
        report = run("doctor", "--config", str(file))
    assert report.returncode == 1
    lines = report.stdout.splitlines()
    for subject, remedy in (
        ("fail  provider keyless", "NOT_SET"),
        ("fail  provider dead", "http://127.0.0.1:1/v1/models"),
        ("fail  model file", "not a GGUF file"),
        ("fail  database", "gateway.db"),
        ("fail  spool", "set-aside.jsonl holds 2 records"),
        ("fail  HTTP port", "--port"),
        ("fail  metrics port of the edge", "[edge] metrics_listen"),
        ("warn  data folder", "chmod 700"),
    ):
        assert any(line.startswith(subject) and remedy in line for line in lines), report.stdout


def test_doctor_fails_on_a_configuration_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """The first line is the last one then."""
    file = tmp_path / "gateway.toml"
    file.write_text("[core]\nnonsense = 1")
    report = run("doctor", "--config", str(file))
    assert report.returncode == 1
    assert report.stdout.startswith("fail  configuration: ")
    assert "nonsense" in report.stdout


def test_the_version_is_that_of_the_distribution(run: Run) -> None:
    """It is printed without a configuration, and without loading any of the gateway."""
    shown = run("--version", PYTHONPROFILEIMPORTTIME="1")
    assert (shown.returncode, shown.stdout) == (0, f"maniac-gateway {version('maniac-gateway')}\n")
    assert "msgspec" not in shown.stderr


def test_help_is_instant(run: Run) -> None:
    """Every command is listed, without loading any of the gateway."""
    shown = run("--help", PYTHONPROFILEIMPORTTIME="1")
    assert shown.returncode == 0
    for command in (
        *("serve", "core", "edge", "keys", "migrate", "check-config", "pull", "doctor"),
    ):
        assert command in shown.stdout
    assert "grpc" not in shown.stderr
    assert "msgspec" not in shown.stderr
