"""`maniac-gateway projects`: what there is, and the end of one."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import httpx

Run = Callable[..., CompletedProcess[str]]


def test_a_project_is_deleted_only_when_that_is_meant(serve: Callable[..., Any], run: Run) -> None:
    """First it is said what would go; then its key is refused by the running gateway, and nothing else is."""
    started = serve()
    made = run("keys", "create", "--project", "trial", "--create-project")
    key = made.stdout.strip()
    body = {"model": "demo/echo", "messages": [{"role": "user", "content": "ping"}]}

    def ask(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        url = f"{started.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=60).status_code

    assert ask(key) == 200
    listed = run("projects", "list").stdout.splitlines()
    assert [line.split()[1] for line in listed] == ["NAME", "default", "trial"]
    refused = run("projects", "delete", "trail", "--yes")
    assert refused.returncode == 1
    assert "there is no project 'trail'; did you mean `trial`?" in refused.stderr
    asked = run("projects", "delete", "trial")
    assert asked.returncode == 1
    assert "would delete project 'trial'" in asked.stderr
    assert "1 keys, 1 completions" in asked.stderr
    assert ask(key) == 200
    deleted = run("projects", "delete", "trial", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert "deleted project 'trial'" in deleted.stdout
    while (status := ask(key)) == 200:
        # The core hears of it within a second.
        pass
    assert status == 401
    assert ask(started.key) == 200
    assert "project.deleted" in run("audit").stdout
    assert "trial" not in run("projects", "list").stdout + run("keys", "list").stdout


def test_of_two_projects_of_one_name_the_organization_decides(run: Run) -> None:
    """Neither is taken for the other."""
    assert run("migrate").returncode == 0
    for organization in ("one", "two"):
        run("keys", "create", "--project", "p", "--organization", organization, "--create-project")
    refused = run("projects", "delete", "p", "--yes")
    assert refused.returncode == 1
    assert "(one, two): add --organization" in refused.stderr
    assert run("projects", "delete", "p", "--organization=two", "--yes").returncode == 0
    assert [line.split()[2] for line in run("projects", "list").stdout.splitlines()[1:]] == ["one"]
