"""Limits of requests and tokens over HTTP."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cli import run_command
from gateway import Gateway, lasting_window_s
from pages import run_example
from upstream import Exchange, Upstream, answer_or_stream

CONFIG = """
[core]
rate_limit = {rate_limit}
rate_window_s = {window_s}
token_limit = {token_limit}
redis_url = "{redis_url}"
redis_timeout_ms = 2000
local_model = "off"
[providers.mock]
kind = "openai"
base_url = "{base_url}"
"""
BODY = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000}
PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
HEADERS = ("x-ratelimit-limit", "x-ratelimit-remaining")
Start = Callable[..., Gateway]


def _config(
    upstream: Upstream, *, rate_limit: int = 0, token_limit: int = 0, redis: int = 0
) -> str:
    return CONFIG.format(
        rate_limit=rate_limit,
        window_s=lasting_window_s(),
        token_limit=token_limit,
        redis_url=f"redis://127.0.0.1:{redis}/9" if redis else "",
        base_url=upstream.base_url,
    )


def _client(gateway: Gateway, *options: str) -> httpx.Client:
    """Return a client with a new key."""
    secret = run_command(gateway, "keys", "create", "--create-project", *options).strip()
    return httpx.Client(
        base_url=gateway.url, headers={"authorization": f"Bearer {secret}"}, timeout=60
    )


def _redis_port() -> int:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6379)):
            pytest.skip("no Redis on 127.0.0.1:6379: run redis-server or valkey-server")
    return 6379


@pytest.fixture(params=["memory", "redis"])
def redis(request: pytest.FixtureRequest) -> int:
    """Return the port of a Redis, or 0: counted in the core."""
    return _redis_port() if request.param == "redis" else 0


def test_a_key_with_a_rate_of_its_own(start_gateway: Start, upstream: Upstream, redis: int) -> None:
    """Its headers count down; over it there is a 429 with a whole number of seconds, for this key alone."""
    gateway = start_gateway(_config(upstream, rate_limit=10, redis=redis))
    with _client(gateway, "--rate", "3") as narrow, _client(gateway) as other:
        answers = [narrow.get("/v1/models?limit=1") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        seen = [tuple(answer.headers[name] for name in HEADERS) for answer in answers]
        assert seen == [("3", "2"), ("3", "1"), ("3", "0"), ("3", "0")]
        refused = answers[-1]
        assert int(refused.headers["x-ratelimit-reset"]) > time.time()
        assert refused.headers["retry-after"] == "60", "clients sleep no longer than that"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        chat = narrow.post("/v1/chat/completions", json=BODY)
        assert (chat.status_code, chat.headers["x-ratelimit-remaining"]) == (429, "0")
        answer = other.post("/v1/chat/completions", json=BODY)
        assert (answer.status_code, *(answer.headers[name] for name in HEADERS)) == (200, "10", "6")


def test_tokens_are_reserved_while_a_request_runs_and_settled_after_it(
    start_gateway: Start, upstream: Upstream, redis: int
) -> None:
    """Two requests that may use 1,000 tokens each do not fit into 1,500 at once, but one after the other."""
    gateway = start_gateway(_config(upstream, token_limit=1500, redis=redis))
    released = upstream.event()

    async def hold(exchange: Exchange) -> None:
        await released.wait()
        await answer_or_stream(exchange)

    upstream.handler = hold
    with _client(gateway) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/chat/completions", json=BODY)
        upstream.wait_for_requests(1)
        second = client.post("/v1/chat/completions", json=BODY)
        assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(second.headers["retry-after"]) >= 1
        assert "1500 tokens" in second.json()["error"]["message"]
        upstream.set(released)
        assert first.result().status_code == 200
        upstream.handler = answer_or_stream
        # 12 tokens each; none is reserved any more.
        for _ in range(5):
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        assert len(upstream.exchanges) == 6


def test_without_its_redis_a_gateway_serves_without_limits(
    start_gateway: Start, upstream: Upstream
) -> None:
    """Requests pass, headers stay whole, and the log says that limits are not enforced."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gateway = start_gateway(_config(upstream, rate_limit=2, redis=free.getsockname()[1]))
        with _client(gateway) as client:
            for _ in range(4):
                answer = client.post("/v1/chat/completions", json=BODY)
                assert answer.status_code == 200
                assert tuple(answer.headers[name] for name in HEADERS) == ("2", "2")
    assert gateway.output().count("limits are not enforced") == 1


def test_the_page_runs_as_printed(start_gateway: Start, upstream: Upstream) -> None:
    """The examples in docs/limits.md, in Python and on the command line, do what they say."""
    gateway = start_gateway(_config(upstream, rate_limit=600))
    assert run_example(gateway, "limits.md") == "200 True\ngreeting True True\nTrue\n"

    commands = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert commands
    environ = {
        **gateway.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MANIAC_CORE__DATA_DIR": str(gateway.data_dir),
    }
    script = "set -eu\n" + "\n".join(commands) + '\necho "$KEY"\n'
    ran = subprocess.run(
        ["bash", "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *printed, secret = ran.stdout.splitlines()
    assert re.search(r"key \S+ \(laptop\) +month +5\.00 +0\.00", ran.stdout)
    assert re.search(r"project default +day +20\.00", ran.stdout)
    assert re.search(r"all projects +month +300\.00", ran.stdout)
    assert printed[-1] == "removed"
    answer = httpx.get(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {secret}"})
    assert (answer.status_code, answer.headers["x-ratelimit-limit"]) == (200, "600")
