"""What a project may hold: completions, examples and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cli import run_command
from gateway import CONFIG, KEY, Gateway
from upstream import Exchange, Upstream

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


def test_a_burst_passes_no_more_than_the_quota(http: httpx.Client, upstream: Upstream) -> None:
    """Calls that run count as well, however many begin before the first record is there."""
    release = upstream.event()

    async def answer(exchange: Exchange) -> None:
        await release.wait()
        await exchange.answer()

    upstream.handler = answer
    called = len(upstream.exchanges)
    with ThreadPoolExecutor(30) as pool:
        pending = [pool.submit(http.post, "/chat/completions", json=_CHAT) for _ in range(30)]
        upstream.wait_for_requests(called + 3)
        upstream.set(release)
        statuses = Counter(one.result().status_code for one in pending)

    assert statuses == {200: 3, 429: 27}
    assert http.get("/chat/completions").json()["total"] == 3


def test_a_repetition_adds_nothing_and_is_answered(http: httpx.Client, upstream: Upstream) -> None:
    """What was answered under an Idempotency-Key is told again, also by a project that is full."""
    del upstream
    keyed = {"headers": {"Idempotency-Key": "k"}, "json": _CHAT}
    ids = [http.post("/chat/completions", **keyed).json()["id"]]
    for _ in range(2):
        http.post("/chat/completions", json=_CHAT).raise_for_status()
    again = http.post("/chat/completions", **keyed)
    new = http.post("/chat/completions", headers={"Idempotency-Key": "other"}, json=_CHAT)
    http.delete(f"/chat/completions/{http.get('/chat/completions').json()['data'][0]['id']}")
    later = http.post("/chat/completions", headers={"Idempotency-Key": "other"}, json=_CHAT)

    assert [again.json()["id"], new.status_code, later.status_code] == [*ids, 429, 200]


def test_requests_that_fail_take_no_room(http: httpx.Client, upstream: Upstream) -> None:
    """A request that leaves nothing in the project is not counted against the next one."""
    del upstream
    for _ in range(3):
        missing = http.post("/chat/completions", json={**_CHAT, "model": "mock-none/m"})
        assert missing.status_code == 404
    answered = [http.post("/chat/completions", json=_CHAT).status_code for _ in range(3)]

    assert answered == [200, 200, 200]


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


def test_files_at_the_same_time_share_the_quota(http: httpx.Client, upstream: Upstream) -> None:
    """Whichever are stored first fit, and the others are refused."""
    del upstream
    form = {"purpose": (None, "test"), "file": ("a.bin", b"x" * 30)}
    with ThreadPoolExecutor(20) as pool:
        pending = [pool.submit(http.post, "/files", files=form) for _ in range(20)]
        statuses = Counter(one.result().status_code for one in pending)

    assert statuses == {200: 3, 429: 17}
    assert http.get("/files").json()["total"] == 3
