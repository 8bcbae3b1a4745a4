"""What the processes of `serve` hold: each the variables it needs by name, and no memory that others could read."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from maniac_core.cli.serving.environment import for_core, for_edge, for_model
from maniac_core.config.core import load

_PROVIDERS = """
[core]
local_model = "off"
[providers.demo]
kind = "scripted"
models = ["echo"]
[providers.mine]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
models = ["m"]
api_key_env = ["MINE_1", "MINE_2"]
"""
_GIVEN = {
    "MINE_1": "secret-1",
    "MINE_2": "secret-2",
    "OPENAI_API_KEY": "secret-3",
    "MANIAC_INTERNAL_KEY": "secret-internal-0123456789abcdef0123456789",
    "MANIAC_CORE__RATE_LIMIT": "5",
    "MANIAC_EDGE__STRICT_REQUESTS": "true",
    "PGPASSWORD": "secret-6",
    "AWS_SECRET_ACCESS_KEY": "secret-7",
    "GITHUB_TOKEN": "secret-8",
    "SOMETHING_ELSE": "secret-9",
    "HTTPS_PROXY": "http://me:secret-10@127.0.0.1:1",
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
}


def _environ_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="nobody else may read the environment of these processes"
)
def test_each_process_holds_what_it_needs(serve: Callable[..., Any]) -> None:
    """The edge has no provider's key, and neither side has what nothing refers to."""
    started = serve(config=_PROVIDERS, **_GIVEN)
    core = _environ_of(started.child(" core"))
    edge = _environ_of(started.child("maniac_edge"))
    for name in ("MINE_1", "MINE_2", "OPENAI_API_KEY", "MANIAC_INTERNAL_KEY", "HTTPS_PROXY"):
        assert core[name] == _GIVEN[name]
    assert core["MANIAC_CORE__RATE_LIMIT"] == "5"
    assert edge["MANIAC_EDGE__STRICT_REQUESTS"] == "true"
    assert not [value for value in edge.values() if "secret" in value]
    for environ in (core, edge):
        assert environ["LC_ALL"] == "C.UTF-8"
        assert environ["PYTHONUTF8"] == "1"
        assert environ["PATH"] == os.environ["PATH"]
        for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SOMETHING_ELSE"):
            assert name not in environ


def test_what_database_and_object_store_ask_for_goes_to_the_core(tmp_path: Path) -> None:
    """Only where they are used."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "[core]\ndatabase_url = 'postgresql://h/db'\nobject_store_url = 's3://bucket'\n"
    )
    core = for_core(load(file, _GIVEN), _GIVEN)
    assert {"PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"} <= core.keys()
    assert "MINE_1" not in core


def test_credentials_of_a_cloud_go_to_the_core_that_asks_it(tmp_path: Path) -> None:
    """And to no other."""
    given = {**_GIVEN, "GOOGLE_APPLICATION_CREDENTIALS": "secret.json", "CLOUDSDK_CONFIG": "/c"}
    file = tmp_path / "gateway.toml"
    file.write_text("[providers.v]\nkind = 'vertex'\nproject = 'p'\nlocation = 'global'\n")
    assert given.keys() - for_core(load(file, given), given).keys() == {
        *("MINE_1", "MINE_2", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"),
        *("SOMETHING_ELSE", "MANIAC_EDGE__STRICT_REQUESTS"),
    }
    assert "CLOUDSDK_CONFIG" not in for_core(load(None, given), given)
    file.write_text("[providers.b]\nkind = 'bedrock'\nregion = 'eu-west-1'\n")
    held = for_core(load(file, given), given)
    assert held["AWS_SECRET_ACCESS_KEY"] == "secret-7"
    assert "CLOUDSDK_CONFIG" not in held


def test_the_model_server_holds_no_secret() -> None:
    """Whatever their names are like."""
    held = for_model({**_GIVEN, "OMP_NUM_THREADS": "2", "SECRET_SAUCE": "secret"})
    assert held == {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "2"}


def test_the_edge_exports_traces_through_a_proxy_only_if_asked() -> None:
    """A proxy's address may hold a password."""
    assert "HTTPS_PROXY" not in for_edge(frozenset(), _GIVEN)
    traced = for_edge(frozenset(), {**_GIVEN, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"})
    assert {"HTTPS_PROXY", "OTEL_EXPORTER_OTLP_ENDPOINT"} <= traced.keys()


def test_no_process_leaves_a_core_dump(serve: Callable[..., Any]) -> None:
    """Nor can their memory be read by other programs of this user."""
    started = serve()
    for pid in (started.process.pid, *started.children()):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        # What is not dumpable belongs to root.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def test_what_is_written_is_the_owners_only(serve: Callable[..., Any], tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        started = serve()
    finally:
        os.umask(before)
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(60) == 0
    found = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert len(found) > 3
    open_to_others = [str(path) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


@pytest.mark.parametrize(
    "key",
    ["tiny-key", "mk-fifteen-char", "with a blank in it, long enough", "schlüssel-der-lang-ist"],
)
def test_a_key_that_could_be_guessed_is_refused(run: Callable[..., Any], key: str) -> None:
    """It is neither taken nor shown, nor listed afterwards."""
    refused = run("serve", "--port=0", "--grpc-port=0", MANIAC_API_KEY=key)
    assert refused.returncode == 2
    assert "MANIAC_API_KEY" in refused.stderr
    assert key not in refused.stderr + refused.stdout
    listed = run("keys", "list")
    assert listed.returncode == 0, listed.stderr
    assert key[:5] not in listed.stdout
