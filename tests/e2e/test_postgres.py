"""The gateway on PostgreSQL: what clients see is what they see on SQLite."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cli import run_command
from gateway import Gateway
from upstream import Upstream

CONFIG = """
[core]
database_url = "{database_url}"
database_pool = 5
rate_limit = 1000000
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
"""
BODY: dict[str, Any] = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi there"}]}


@pytest.fixture
def start(
    start_gateway: Callable[..., Gateway], upstream: Upstream, postgres_url: str
) -> Callable[[], Gateway]:
    """Return a function that starts a gateway on the database of this test."""
    config = CONFIG.format(database_url=postgres_url, base_url=upstream.base_url)
    return lambda: start_gateway(config)


def _ids(client: httpx.Client, **params: Any) -> list[str]:
    answer = client.get("/v1/chat/completions", params=params)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["data"]]


def test_completions_are_answered_captured_and_listed(start: Callable[[], Gateway]) -> None:
    """Plain and streamed answers are stored with their metadata, found by filters, and explained."""
    with start().client() as client:
        made = [
            client.post(
                "/v1/chat/completions", json={**BODY, "metadata": {"n": str(number)}}
            ).json()
            for number in range(3)
        ]
        streamed = client.post("/v1/chat/completions", json={**BODY, "stream": True})
        assert streamed.text.rstrip().endswith("data: [DONE]")
        listed = _ids(client, limit=10)
        assert set(listed) >= {one["id"] for one in made}
        assert len(listed) == 4
        assert _ids(client, **{"metadata[n]": "1"}) == [made[1]["id"]]
        stored = client.get(f"/v1/chat/completions/{made[0]['id']}").json()
        assert stored["choices"] == made[0]["choices"]
        assert stored["usage"] == made[0]["usage"]


def test_a_container_made_at_one_gateway_serves_at_another(start: Callable[[], Gateway]) -> None:
    """Two gateways on one database: what one makes, and what one revokes, the other knows by itself."""
    first, second = start(), start()
    with first.client() as one, second.client() as other:
        body = {"label": "support", "initial_model": "mock/m1"}
        assert one.post("/v1/containers", json=body).status_code in (200, 201)
        answer = other.post("/v1/chat/completions", json={**BODY, "model": "maniac:support"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] in _ids(one, limit=10)

        secret = run_command(first, "keys", "create", "--name", "guest").strip()
        guest = {"authorization": f"Bearer {secret}"}
        assert other.get("/v1/models", headers=guest).status_code == 200
        [key_id] = re.findall(
            r"^(\S+) .*\bguest\b", run_command(first, "keys", "list"), re.MULTILINE
        )
        run_command(first, "keys", "revoke", key_id)
        revoked_at = time.monotonic()
        while other.get("/v1/models", headers=guest).status_code != 401:
            assert time.monotonic() - revoked_at < 10
            time.sleep(0.02)  # There is no event across processes to wait for.
