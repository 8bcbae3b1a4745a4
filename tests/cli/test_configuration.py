"""Commands that look at the configuration: `check-config`, `doctor`, and refusals by every command."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest
from ports import free_ports

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
    healthy = run(
        "doctor",
        MANIAC_EDGE__PORT="0",
        MANIAC_CORE__LISTEN="127.0.0.1:0",
        MANIAC_CORE__LOCAL_PORT=str(free_ports(1)[0]),
    )
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
            "[providers.cloud]\nkind = 'vertex'\nproject = 'p'\nlocation = 'global'\n"
            "[providers.dead]\nkind = 'openai'\nbase_url = 'http://127.0.0.1:1/v1'\n"
        )
        report = run(
            "doctor",
            "--config",
            str(file),
            GOOGLE_APPLICATION_CREDENTIALS=str(file.with_name("no")),
        )
    assert report.returncode == 1
    lines = report.stdout.splitlines()
    for subject, remedy in (
        ("fail  provider keyless", "NOT_SET"),
        ("fail  provider cloud", "check GOOGLE_APPLICATION_CREDENTIALS"),
        ("fail  provider dead", "http://127.0.0.1:1/v1/models"),
        ("fail  model file", "not a GGUF file"),
        ("fail  database", "gateway.db"),
        ("fail  spool", "set-aside.jsonl holds 2 records"),
        ("fail  HTTP port", "--port"),
        ("fail  metrics port of the edge", "[edge] metrics_listen"),
        ("warn  data folder", "chmod 700"),
    ):
        found = any(line.startswith(subject) and remedy in line for line in lines)
        assert found, f"{subject}: {report.stdout}{report.stderr}"


def test_doctor_asks_as_serve_does(run: Run, tmp_path: Path) -> None:
    """The same rule for base URLs and proxies, so that a version or a proxy of another kind confuses nobody."""
    with scripted_lists() as (port, paths):
        file = tmp_path / "gateway.toml"
        url = f"http://user:secret@127.0.0.1:{port}"
        file.write_text(
            "[core]\nlocal_model = 'off'\nlisten = '127.0.0.1:0'\n"
            f"[providers.a]\nkind = 'anthropic'\nbase_url = '{url}/v1'\n"
            f"[providers.g]\nkind = 'gemini'\nbase_url = '{url}/v1beta'\n"
            f"[providers.o]\nkind = 'openai'\nbase_url = '{url}/none'\n"
            "[providers.far]\nkind = 'openai'\nbase_url = 'https://provider.invalid/v1'\n"
        )
        report = run("doctor", "--config", str(file), ALL_PROXY="socks4://127.0.0.1:9")

    lines = report.stdout.splitlines()
    assert sorted(paths) == [
        "/none/models",
        "/v1/models?limit=1000",
        "/v1beta/models?pageSize=1000",
    ]
    shown = f"http://127.0.0.1:{port}"
    assert f"ok    provider a: {shown}/v1/models answers" in lines
    assert f"ok    provider g: {shown}/v1beta/models answers" in lines
    [missing] = [line for line in lines if "provider o" in line]
    assert "base_url may lack its version, such as /v1" in missing
    [far] = [line for line in lines if "provider far" in line]
    assert "socks4" in far
    assert "secret" not in report.stdout
    assert "Traceback" not in report.stderr


def test_providers_are_asked_through_a_socks_proxy(
    run: Run, serve: Callable[..., Any], tmp_path: Path
) -> None:
    """By `doctor` and by a gateway that looks for models; the proxy is given the name, which only it knows."""
    config = (
        "[core]\nlocal_model = 'off'\n"
        "[providers.far]\nkind = 'openai'\nbase_url = 'http://provider.invalid/v1'\n"
    )
    with scripted_lists(is_proxy=True) as (port, paths):
        proxy = f"socks5h://127.0.0.1:{port}"
        started = serve(config=config, ALL_PROXY=proxy)
        with httpx.Client(headers={"authorization": f"Bearer {started.key}"}) as client:
            deadline = time.monotonic() + 60
            while not (listed := client.get(f"{started.url}/v1/models").json()["data"]):
                assert time.monotonic() < deadline
                time.sleep(0.05)  # Only the list itself tells that it has come.
        report = run("doctor", f"--config={tmp_path / 'gateway.toml'}", ALL_PROXY=proxy)
    assert [model["id"] for model in listed] == ["far/m"]
    assert "ok    provider far: http://provider.invalid/v1/models answers\n" in report.stdout
    assert set(paths) == {"provider.invalid", "/v1/models"}


@contextlib.contextmanager
def scripted_lists(*, is_proxy: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Serve lists of models where the versioned APIs have them; yield the port and the paths asked for.

    As a SOCKS5 proxy it stands for whatever host is asked for, whose name is among the paths.
    """
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            body = b'{"data": [{"id": "m"}], "models": []}'
            self.send_response(200 if self.path.startswith("/v1") else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            if is_proxy:
                # No login; then the length of a name, the name and a port.
                self.rfile.read(3)
                self.wfile.write(b"\x05\x00")
                length = self.rfile.read(5)[-1]
                paths.append(self.rfile.read(length).decode())
                self.rfile.read(2)
                self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], paths
        server.shutdown()


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\n[core]\nrate_limt = 3",
            "line 3: [core]: unknown key `rate_limt`; did you mean `rate_limit`?",
        ),
        ("[edge]\n\nprot = 3", "line 3: [edge]: unknown key `prot`; did you mean `port`?"),
        (
            "[edge]\nlog_format = 'jsn'",
            "line 2: [edge]: `log_format`: 'jsn' is not one of auto, json, pretty",
        ),
        ("edge.port = 'many'", "line 1: [edge]: `port`: expected `int`"),
        ("[cor]\nx = 1", "line 1: [cor]: unknown table; did you mean [core]?"),
        ("[provider.mine]\nx = 1", "line 1: [provider]: unknown table; did you mean [providers]?"),
        (
            "[providers.a]\nkind = 'opnai'",
            "line 2: [providers.a]: `kind`: 'opnai' is not one of anthropic, bedrock, gemini, openai, openai-responses, scripted, vertex; did you mean 'openai'?",
        ),
        (
            "[providers.a]\nkind = 'scripted'\n[providers.b]\nkind = 'scripted'\ntimeouts = { idel_s = 1 }",
            "line 5: [providers.b]: `timeouts`: unknown key `idel_s`; did you mean `idle_s`?",
        ),
        (
            "[providers.a]\nkind = 'scripted'\nrules = [{ txt = 'x' }]",
            "line 3: [providers.a]: `rules`: unknown key `txt`; did you mean `text`?",
        ),
        (
            "[providers]\na = { kind = 'scripted', modles = ['x'] }",
            "line 2: [providers.a]: unknown key `modles`",
        ),
        ("[providers]\nkind = 'openai'", "line 2: [providers]: a provider has a table of its own"),
    ],
)
def test_what_was_meant_is_named_with_the_line(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    """The nearest key, kind or table, and where the wrong one stands."""
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    assert f"{file}, {said}" in run("check-config", f"--config={file}").stderr


@pytest.mark.parametrize(
    "secret",
    [
        "sk-live-0123456789abcdef",
        "gsk_aBcDeFgHiJkLmNoPqRsTuVwX0123456789",
        "AIzaSyA0123456789abcdefghijklmnopqrstu",
        "hf_abcdefghij0123456789",
        "two words",
    ],
)
def test_a_secret_in_place_of_its_name_is_refused_unprinted(
    run: Run, tmp_path: Path, secret: str
) -> None:
    """A key in the file, under its own name or as that of a variable, is never shown."""
    file = tmp_path / "gateway.toml"
    provider = "[providers.a]\nkind = 'openai'\nbase_url = 'http://h/v1'\n"
    for text in (
        f"{provider}api_key = '{secret}'",
        f"{provider}api_key_env = '{secret}'",
        f"{provider}api_key_env = ['GOOD', '{secret}']",
        f"[core]\ninternal_key_env = '{secret}'",
        f"[core]\nobject_store_secret_env = '{secret}'",
    ):
        file.write_text(text)
        for command in ("check-config", "doctor"):
            refused = run(command, f"--config={file}")
            assert refused.returncode == 1
            said = refused.stdout + refused.stderr
            assert secret not in said
            assert "api_key_env" in said or "_env" in said


def test_no_secret_in_an_address_is_shown(run: Run, tmp_path: Path) -> None:
    """User names' passwords, with whatever characters, tokens, queries and fragments."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[core]\nlisten = '127.0.0.1:0'\ndatabase_url = 'postgresql://me:hunter2@127.0.0.1:1/db?password=hunter3'\n"
        "redis_url = 'redis://:hunter4@127.0.0.1:1/0?x=hunter5'\n"
        "object_store_url = 's3://bucket'\nobject_store_endpoint = 'http://hunter6@127.0.0.1:1'\n"
        "[edge]\nport = 0\n"
        "[providers.mine]\nkind = 'openai'\nbase_url = 'http://me:hunter7@127.0.0.1:1/v1'\n"
    )
    shown = run("check-config", f"--config={file}")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["core"]["database_url"] == (
        "postgresql://me:***@127.0.0.1:1/db?password=***"
    )
    assert "hunter" not in shown.stdout
    report = run("doctor", f"--config={file}")
    assert "127.0.0.1:1/v1" in report.stdout
    assert "hunter" not in report.stdout + report.stderr


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MANIAC_EDGE_PORT", "MANIAC_EDGE__PORT"),
        ("MANIAC_CORE_RATE_LIMIT", "MANIAC_CORE__RATE_LIMIT"),
        ("MANIAC_CORE_RATELIMIT", "MANIAC_CORE__RATE_LIMIT"),
        ("MANIAC_DATA_DIR", "MANIAC_CORE__DATA_DIR"),
        ("MANIAC_PORT", "MANIAC_EDGE__PORT"),
        ("MANIAC_APIKEY", "MANIAC_API_KEY"),
        ("MANIAC_XYZZY", None),
    ],
)
def test_a_variable_that_nothing_reads_is_warned_of(
    run: Run, variable: str, meant: str | None
) -> None:
    """One underscore too few is told, and the command goes on."""
    shown = run("check-config", **{variable: "1"})
    assert shown.returncode == 0
    hint = f"; did you mean {meant}?" if meant else ""
    assert shown.stderr == f"maniac-gateway: {variable} is set, and nothing reads it{hint}\n"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MANIAC_CORE__RATELIMIT", "MANIAC_CORE__RATE_LIMIT"),
        ("MANIAC_EDGE__PROT", "MANIAC_EDGE__PORT"),
    ],
)
def test_a_variable_for_a_key_that_is_not_there_is_refused(
    run: Run, variable: str, meant: str
) -> None:
    """As in the file."""
    refused = run("check-config", **{variable: "1"})
    assert refused.returncode == 1
    assert refused.stderr == (
        f"maniac-gateway: {variable}: no such setting; did you mean `{meant}`?\n"
    )


def test_a_value_from_the_environment_is_named_by_its_variable(run: Run) -> None:
    """Not by the file, which has nothing to do with it."""
    for variable in ("MANIAC_CORE__RATE_LIMIT", "MANIAC_EDGE__PORT"):
        refused = run("check-config", **{variable: "many"})
        assert refused.stderr.startswith(f"maniac-gateway: {variable}: ")


def test_alone_it_prints_its_help(run: Run) -> None:
    """What it can do, and in capitals what is written so."""
    alone = run()
    assert alone.returncode == 0
    assert alone.stdout == run("--help").stdout
    assert "Make, list and revoke API keys." in run("keys", "--help").stdout
    assert "PostgreSQL" in run("migrate", "--help").stdout


@pytest.mark.parametrize("port", ["http", "-1", "70000", "4000.5", "", "٣"])
def test_a_port_that_is_none_is_told_in_words(run: Run, port: str) -> None:
    """Not in those of the program."""
    refused = run("serve", f"--port={port}")
    assert refused.returncode == 2
    assert f"argument --port: {port!r} is not a port, a number from 0 to 65535" in refused.stderr


def test_base_urls_come_from_the_environment_too(run: Run, tmp_path: Path) -> None:
    """For providers that are there by their key, and for tables without one; a file's own wins."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[providers.anthropic]\nmax_retries = 1\n[providers.gemini]\nbase_url = 'http://own'\n"
    )
    variables = {
        f"{name}_BASE_URL": f"http://{name.lower()}.test/v1"
        for name in ("OPENAI", "ANTHROPIC", "GEMINI", "OPENROUTER")
    }
    shown = run("check-config", "--config", str(file), OPENAI_API_KEY="sk-x", **variables)
    wrong = run("check-config", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="user:secret@host")

    found = {name: it["base_url"] for name, it in json.loads(shown.stdout)["providers"].items()}
    assert found["openai"] == "http://openai.test/v1"
    assert found["anthropic"] == "http://anthropic.test/v1"
    assert found["gemini"] == "http://own"
    assert "openrouter" not in found
    assert wrong.returncode == 1
    assert "OPENAI_BASE_URL" in wrong.stderr
    assert "secret" not in wrong.stderr


_MOCK = "[providers.mock]\nkind = 'openai'\nbase_url = 'http://h/v1'\nmodels = ['a', 'b']\n"


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("[aliases.mock]\nmodels = ['mock/a']", "[aliases.mock]: has the name of a provider"),
        ("[aliases.openai]\nmodels = ['mock/a']", "[aliases.openai]: has the name of a provider"),
        ("[aliases.maniac]\nmodels = ['mock/a']", "[aliases.maniac]: has the name of a provider"),
        ("[aliases.'a/b']\nmodels = ['mock/a']", "is not a usable name"),
        ("[aliases.x]\nmodels = ['nobody/a']", "there is no provider 'nobody'"),
        ("[aliases.x]\nmodels = ['mock/c']", "mock serves only a, b"),
        ("[aliases.x]\nmodels = ['fast']", "'fast' is not a model; write provider/name"),
        ("[aliases.x]\nmodels = []", "models"),
        ("[aliases.x]\nmodels = ['mock/a']\nweights = [1, 2]", "weights"),
        ("[aliases.x]\nmodels = ['mock/a']\nweights = [0]", "weights"),
        ("[aliases.x]\nmodels = ['mock/a']\nweight = [1]", "weight"),
        ("[aliases]\nx = 'mock/a'", "write [aliases.NAME]"),
    ],
)
def test_an_alias_that_cannot_work_is_refused(
    run: Run, tmp_path: Path, table: str, named: str
) -> None:
    """By its name, with what is wrong."""
    file = tmp_path / "gateway.toml"
    file.write_text(_MOCK + table)

    refused = run("check-config", "--config", str(file))

    assert refused.returncode == 1
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr


def test_aliases_are_shown(run: Run, tmp_path: Path) -> None:
    """As they are in force."""
    file = tmp_path / "gateway.toml"
    file.write_text(_MOCK + "[aliases.x]\nmodels = ['mock/a', 'openai/gpt-4o']\nweights = [3, 1]\n")

    shown = json.loads(run("check-config", "--config", str(file)).stdout)

    assert shown["aliases"] == {"x": {"models": ["mock/a", "openai/gpt-4o"], "weights": [3, 1]}}
