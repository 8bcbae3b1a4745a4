"""A database that goes away while the gateway serves: who is still answered, by which setting, and what comes after."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from cli import run_command
from gateway import KEY, Gateway
from outage import DatabaseOutage, PostgresOutage, SQLiteOutage
from postgres_server import PostgresServer
from upstream import Upstream

CONFIG = """
[core]
database_url = "{database_url}"
rate_limit = 1000000
local_model = "off"
{settings}
[providers.openai]
base_url = "{base_url}"
max_retries = 0
"""
MODEL = "openai/gpt-4o"
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
ENVIRON = {"OPENAI_API_KEY": "sk-test"}
Start = Callable[..., tuple[Gateway, DatabaseOutage]]


@pytest.fixture(params=["sqlite", "postgres"])
def start(
    request: pytest.FixtureRequest, start_gateway: Callable[..., Gateway], upstream: Upstream
) -> Start:
    """Return a function that starts a gateway with some settings, on a database that can be taken away."""

    def run(*settings: str) -> tuple[Gateway, DatabaseOutage]:
        fields = {"base_url": upstream.base_url, "settings": "\n".join(settings)}
        if request.param == "sqlite":
            gateway = start_gateway(CONFIG.format(database_url="sqlite", **fields), ENVIRON)
            return gateway, SQLiteOutage(gateway.data_dir / "gateway.db")
        server: PostgresServer = request.getfixturevalue("make_postgres")()
        config = CONFIG.format(database_url=f"{server.url}/postgres", **fields)
        gateway = start_gateway(config, ENVIRON)
        return gateway, PostgresOutage(server)

    return run


def ask(gateway: Gateway, key: str = KEY, **changes: Any) -> httpx.Response:
    """Ask for a completion."""
    return httpx.post(
        f"{gateway.base_url}/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={**BODY, **changes},
        timeout=30,
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so in another process."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal; one for an outage says when to try again."""
    error = response.json()["error"]
    if response.status_code == 503:
        assert error["type"] == "api_error"
        assert int(response.headers["retry-after"]) >= 1
        assert "x-ratelimit-limit" in response.headers
    return response.status_code, error["code"]


def make_key(gateway: Gateway, *options: str) -> str:
    return run_command(gateway, "keys", "create", "--create-project", *options).strip()


def revoke(gateway: Gateway, name: str) -> None:
    keys = run_command(gateway, "keys", "list")
    [key_id] = re.findall(rf"^(\S+) .*\b{name}\b", keys, re.MULTILINE)
    run_command(gateway, "keys", "revoke", key_id)


@pytest.mark.long
def test_without_a_grace_nobody_is_answered_and_no_key_is_called_wrong(
    start: Start, upstream: Upstream
) -> None:
    """Every key, good or not, is a 503 before any provider is called; afterwards each gets what it deserves."""
    gateway, database = start()
    revoked = make_key(gateway, "--name", "former")
    assert ask(gateway, revoked).status_code == 200
    revoke(gateway, "former")
    until(lambda: ask(gateway, revoked).status_code == 401)
    assert ask(gateway).status_code == 200

    database.begin()
    until(lambda: refusal(ask(gateway)) == (503, "auth_unavailable"))
    called = len(upstream.exchanges)
    told = [refusal(ask(gateway, key)) for key in (KEY, "mk-nobody", revoked)]
    streamed = refusal(ask(gateway, stream=True))
    after_outage = len(upstream.exchanges)
    database.end()
    until(lambda: ask(gateway).status_code == 200)

    assert [*told, streamed] == [(503, "auth_unavailable")] * 4
    assert after_outage == called
    until(lambda: refusal(ask(gateway, "mk-nobody")) == (401, "invalid_api_key"))
    assert refusal(ask(gateway, revoked)) == (401, "invalid_api_key")


@pytest.mark.long
def test_known_keys_go_on_for_their_grace_and_every_answer_is_kept(
    start: Start, upstream: Upstream
) -> None:
    """Known keys are answered, by models and known containers; whoever has a budget or is unknown is not."""
    gateway, database = start("key_grace_s = 3600", 'durability = "available"')
    guest = make_key(gateway, "--name", "guest")
    # Too little for a core to reserve anything of it ahead.
    poor = make_key(gateway, "--name", "poor", "--budget-usd", "1")
    revoked = make_key(gateway, "--name", "former")
    with gateway.client() as client:
        for label in ("used", "unused"):
            made = client.post("/v1/containers", json={"label": label, "initial_model": MODEL})
            assert made.status_code == 200
        revoke(gateway, "former")
        # What is known is what the core was asked for since it heard of the last change: a new one has none to hear of.
        gateway.stop()
        gateway.start()
        used = ask(gateway, model="maniac:used")
        before = [ask(gateway), used, ask(gateway, guest), ask(gateway, poor)]
        assert [one.status_code for one in before] == [200] * 4
        assert ask(gateway, revoked).status_code == 401

        database.begin()
        called_before = len(upstream.exchanges)
        answered = [ask(gateway), ask(gateway, guest), ask(gateway, model="maniac:used")]
        streamed = ask(gateway, stream=True)
        by_openai = openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0)
        retriable = by_openai.chat.completions.create(**BODY)
        called = len(upstream.exchanges)
        told = {
            "budget": refusal(ask(gateway, poor)),
            "unknown": refusal(ask(gateway, "mk-nobody")),
            "revoked": refusal(ask(gateway, revoked)),
            "container": refusal(ask(gateway, model="maniac:unused")),
            "list": refusal(client.get("/v1/chat/completions")),
        }
        called_after = len(upstream.exchanges)
        database.end()
        spool = gateway.data_dir / "spool" / "records.jsonl"
        until(lambda: not spool.exists())
        until(lambda: client.get("/v1/chat/completions").status_code == 200)
        listed = client.get("/v1/chat/completions", params={"limit": 100}).json()

    assert [one.status_code for one in (*answered, streamed)] == [200] * 4
    assert streamed.text.rstrip().endswith("data: [DONE]")
    assert called - called_before == 5
    assert called_after == called
    assert told == {
        "budget": (503, "dependency_unavailable"),
        "unknown": (503, "auth_unavailable"),
        "revoked": (401, "invalid_api_key"),
        "container": (503, "dependency_unavailable"),
        "list": (503, "dependency_unavailable"),
    }
    ids = {one.json()["id"] for one in (*before, *answered)} | {retriable.id}
    ids.add(streamed.text.split('"id":"')[1].split('"')[0])
    assert {item["id"] for item in listed["data"]} >= ids
    assert len(listed["data"]) == listed["total"] == called_after


def test_a_grace_alone_delivers_nothing_that_is_not_captured(start: Start) -> None:
    """With strict durability a known key gets as far as its record, which can't be kept."""
    gateway, database = start("key_grace_s = 3600")
    assert ask(gateway).status_code == 200
    database.begin()
    told = refusal(ask(gateway))
    streamed = ask(gateway, stream=True)
    database.end()
    until(lambda: ask(gateway).status_code == 200)

    assert told == (503, "dependency_unavailable")
    assert '"code":"dependency_unavailable"' in streamed.text
