"""Coding agents as their users install them: each reads a file, edits it and answers, with a scripted model.

They are hundreds of megabytes, so they are tried only where `MANIAC_TEST_AGENTS=1` says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from agents import ANSWER, plays_chat, plays_messages
from gateway import KEY, Gateway
from providers import Handler, Providers

_PACKAGES = ("@anthropic-ai/claude-code", "@openai/codex", "@google/gemini-cli")
_WISH = "Replace apples by pears in notes.txt"
pytestmark = [
    pytest.mark.skipif(
        os.environ.get("MANIAC_TEST_AGENTS") != "1",
        reason="coding agents are large: MANIAC_TEST_AGENTS=1 fetches and tries them",
    ),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is missing: install Node.js 20"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the agents' programs."""
    folder = tmp_path_factory.mktemp("agents")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--no-audit", "--no-fund", *_PACKAGES]
    fetched = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the agents cannot be fetched: {fetched.stderr[-300:]}")
    claude = folder / "node_modules/@anthropic-ai/claude-code"
    subprocess.run(["node", "install.cjs"], cwd=claude, capture_output=True, check=True)
    return folder / "node_modules/.bin"


@pytest.fixture
def machine(programs: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Where the programs are, and a home with something to work on."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work/notes.txt").write_text("I like apples.\n")
    return programs, tmp_path


def claude(gateway: Gateway, home: Path, model: str) -> tuple[list[str], dict[str, str]]:
    """How Claude Code is started."""
    del home
    environ = {
        "ANTHROPIC_BASE_URL": gateway.url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return ["claude", "-p", _WISH, "--model", model, "--allowedTools", "Read,Edit"], environ


def codex(gateway: Gateway, home: Path, model: str) -> tuple[list[str], dict[str, str]]:
    """How Codex is started."""
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(
        f'model = "{model}"\nmodel_provider = "maniac"\n\n[model_providers.maniac]\nname = "Maniac Gateway"\n'
        f'base_url = "{gateway.base_url}"\nenv_key = "MANIAC_API_KEY"\nwire_api = "responses"\n'
    )
    options = ["--dangerously-bypass-approvals-and-sandbox", "--skip-git-repo-check"]
    return ["codex", "exec", *options, _WISH], {"MANIAC_API_KEY": KEY}


def gemini(gateway: Gateway, home: Path, model: str) -> tuple[list[str], dict[str, str]]:
    """How Gemini CLI is started."""
    (home / ".gemini").mkdir()
    settings = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
    (home / ".gemini/settings.json").write_text(json.dumps(settings))
    environ = {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": gateway.url}
    return ["gemini", "--model", model, "--yolo", "--skip-trust", "-p", _WISH], environ


@pytest.mark.parametrize("agent", [claude, codex, gemini])
@pytest.mark.parametrize(
    "upstream",
    [("openai", plays_chat), ("anthropic", plays_messages)],
    ids=lambda upstream: upstream[0],
)
def test_an_agent_edits_a_file(
    agent: Callable[[Gateway, Path, str], tuple[list[str], dict[str, str]]],
    upstream: tuple[str, Callable[[str], Handler]],
    gateway: Gateway,
    providers: Providers,
    machine: tuple[Path, Path],
) -> None:
    """It reads, edits and answers; every call of the model is counted, also of one that wants nothing stored."""
    provider, plays = upstream
    programs, home = machine
    notes = home / "work/notes.txt"
    providers.handlers[provider] = plays(str(notes))
    before = counted(gateway)
    (program, *arguments), environ = agent(gateway, home, f"{provider}/m1")
    ran = subprocess.run(
        [programs / program, *arguments],
        cwd=notes.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert notes.read_text() == "I like pears.\n", ran.stdout + ran.stderr
    assert ANSWER in ran.stdout
    assert counted(gateway) - before >= len(providers.requests(provider)) >= 3


def counted(gateway: Gateway) -> int:
    """Return how many requests succeeded so far."""
    with gateway.client() as http:
        return int(http.get("/v1/usage").json()["totals"]["success_count"])
