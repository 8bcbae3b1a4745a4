"""`maniac-gateway migrate --to`: from SQLite to PostgreSQL, beside a running gateway and after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

Run = Callable[..., CompletedProcess[str]]


def _ask(serve: Any, key: str) -> str:
    """Return the id of a completion."""
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "ping"}]}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(
        f"{serve.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ).json()
    return str(answer["id"])


def _stop(serve: Any) -> None:
    serve.process.terminate()
    assert serve.process.wait(60) == 0


@pytest.mark.long
def test_an_install_moves(
    serve: Callable[..., Any], run: Run, tmp_path: Path, empty_postgres_url: str
) -> None:
    """While the gateway runs the move says that it is not finished; afterwards all is there, under the same key."""
    source = ("--data-dir", str(tmp_path / "data"))
    before = serve()
    key = before.key
    first = _ask(before, key)
    beside = run("migrate", "--to", empty_postgres_url, *source)
    assert beside.returncode == 3, beside.stderr
    assert "Stop it and run this command again" in beside.stdout
    second = _ask(before, key)
    _stop(before)

    moved = run("migrate", "--to", empty_postgres_url, *source)
    assert moved.returncode == 0, moved.stderr
    assert "completions                          2 rows  sha256 " in moved.stdout

    after = serve(MANIAC_CORE__DATABASE_URL=empty_postgres_url)
    assert "mk-" not in after.banner
    third = _ask(after, key)
    listed = httpx.get(
        f"{after.url}/v1/chat/completions", headers={"authorization": f"Bearer {key}"}
    ).json()
    assert {item["id"] for item in listed["data"]} == {first, second, third}

    again = run("migrate", "--to", empty_postgres_url, *source)
    assert again.returncode == 1
    assert "moved into the target already" in again.stderr


@pytest.mark.parametrize(
    ("target", "variables", "message"),
    [
        ("sqlite", {}, "--to: not the URL of a PostgreSQL database"),
        ("mysql://user:hunter2@host/db", {}, "--to: no engine for `mysql`"),
        (
            "postgresql://host/db",
            {"MANIAC_CORE__DATABASE_URL": "postgresql://host/other"},
            "the install is in PostgreSQL already",
        ),
    ],
)
def test_what_cannot_be_moved_is_refused(
    run: Run, target: str, variables: dict[str, str], message: str
) -> None:
    """A target that is no PostgreSQL, and a source that is no SQLite, are errors of the command line."""
    refused = run("migrate", "--to", target, **variables)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "hunter2" not in refused.stderr


def test_without_an_install_there_is_nothing_to_move(run: Run, empty_postgres_url: str) -> None:
    """A data folder without a database is told, and the target is not touched."""
    refused = run("migrate", "--to", empty_postgres_url)
    assert refused.returncode == 1
    assert "there is no database" in refused.stderr
