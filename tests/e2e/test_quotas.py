"""What a project may hold: completions, examples and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from cli import run_command
from gateway import CONFIG, KEY, Gateway
from upstream import Upstream

_CHAT = {"model": "mock/m1", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def gateway(upstream: Upstream, start_gateway: Callable[..., Gateway]) -> Gateway:
    quotas = "[core]\nproject_max_completions = 3\nproject_max_file_bytes = 100"
    return start_gateway(CONFIG.format(base_url=upstream.base_url).replace("[core]", quotas, 1))


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, timeout=30) as client:
        yield client


def _refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], answer.headers.get("x-should-retry")


def test_a_project_holds_no_more_completions_than_its_quota(
    http: httpx.Client, upstream: Upstream, gateway: Gateway
) -> None:
    """Beyond it no provider is called; what keeps no content goes on, and a deletion makes room at once."""
    ids = [http.post("/chat/completions", json=_CHAT).json()["id"] for _ in range(3)]
    called = len(upstream.exchanges)
    refused = http.post("/chat/completions", json=_CHAT)
    streamed = http.post("/chat/completions", json={**_CHAT, "stream": True})
    assert len(upstream.exchanges) == called
    unstored = http.post("/chat/completions", json={**_CHAT, "store": False})
    other = run_command(gateway, "keys", "create", "--project", "other", "--create-project").strip()
    elsewhere = httpx.post(
        f"{gateway.base_url}/chat/completions",
        json=_CHAT,
        headers={"authorization": f"Bearer {other}"},
    )
    http.delete(f"/chat/completions/{ids[0]}").raise_for_status()
    again = http.post("/chat/completions", json=_CHAT)

    assert _refusal(refused) == (429, "quota_exceeded", "false")
    assert _refusal(streamed) == (429, "quota_exceeded", "false")
    assert "3 completions" in refused.json()["error"]["message"]
    assert [unstored.status_code, elsewhere.status_code, again.status_code] == [200, 200, 200]
    assert http.get("/chat/completions").json()["total"] == 3


def test_examples_count_and_are_refused_one_by_one(http: httpx.Client, upstream: Upstream) -> None:
    """A registration that exceeds the quota says so of its items, and keeps nothing beyond it."""
    del upstream
    container = {"label": "c", "initial_model": "mock/m1"}
    http.post("/containers", json=container).raise_for_status()
    item = {"input": {"messages": [{"role": "user", "content": "Hi"}]}}
    fits = http.post("/chat/completions/register", json={"container": "c", "items": [item] * 2})
    exceeds = http.post("/chat/completions/register", json={"container": "c", "items": [item] * 2})

    assert fits.json()["summary"]["inserted"] == 2
    assert exceeds.json()["summary"]["inserted"] == 0
    assert [error["code"] for error in exceeds.json()["errors"]] == ["quota_exceeded"] * 2


def test_a_project_holds_no_more_bytes_of_files_than_its_quota(
    http: httpx.Client, upstream: Upstream
) -> None:
    """A file that does not fit leaves nothing behind, and deleting one makes room."""
    del upstream

    def upload(size: int) -> httpx.Response:
        form = {"purpose": (None, "test"), "file": ("a.bin", b"x" * size)}
        return http.post("/files", files=form)

    first = upload(60)
    too_large = upload(41)
    second = upload(40)
    full = upload(1)
    http.delete(f"/files/{first.json()['id']}").raise_for_status()
    third = upload(60)

    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 200]
    assert _refusal(too_large) == (429, "quota_exceeded", "false")
    assert _refusal(full) == (429, "quota_exceeded", "false")
    assert http.get("/files").json()["total"] == 2
