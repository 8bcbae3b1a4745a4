"""What every client meets: the root, keys in other headers, pages of other origins, hints, and safe headers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

URL = "/v1/chat/completions"
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def test_the_root_leads_somewhere(client: httpx.AsyncClient) -> None:
    """A browser gets a page with links that work, everyone else the same as JSON."""
    page = await client.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    answer = await client.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert 'href="/docs"' in page.text
    for name in ("docs", "openapi", "health"):
        assert (await client.get(answer.json()[name])).status_code == 200


KEYS = [
    ({"x-api-key": "k1"}, "Bearer k1"),
    ({"api-key": "k2"}, "Bearer k2"),
    ({"x-goog-api-key": "k3"}, "Bearer k3"),
    ({"authorization": "Bearer k4", "x-api-key": "other"}, "Bearer k4"),
    ({"authorization": "Basic abc", "x-api-key": "k5"}, "Bearer k5"),
    ({"authorization": "Basic abc"}, "Basic abc"),
]


@pytest.mark.parametrize(("headers", "authorization"), KEYS)
async def test_a_key_is_found_where_other_makers_put_it(
    edge: Any, core: Any, headers: dict[str, str], authorization: str
) -> None:
    """A bearer token counts first."""
    async with httpx.AsyncClient(base_url=edge.url) as client:
        answer = await client.post(URL, json=REQUEST, headers=headers)

    assert answer.status_code == 200
    assert core.calls[0][2]["authorization"] == authorization


MEANT = {
    "/chat/completions": URL,
    "/v1/chat/completion": URL,
    "/v1/v1/chat/completions": URL,
    "/openai/v1/Chat/Completions": URL,
    "/v1/model": "/v1/models",
    "/models": "/v1/models",
    "/v1/chat_completions": URL,
    "/doc": "/docs",
    "/v1/modles": "/v1/models",
    "/v1/chat/completoins": URL,
    "/v1/contaners": "/v1/containers",
}


@pytest.mark.parametrize(("path", "meant"), MEANT.items())
async def test_a_path_that_is_nearly_right_is_told_the_right_one(
    client: httpx.AsyncClient, path: str, meant: str
) -> None:
    """A base URL without its version, or with two, is the most common mistake."""
    answer = await client.get(path)

    assert answer.status_code == 404
    assert f"Did you mean {meant}?" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing/at/all", "/v1", "/" + "x" * 5000])
async def test_another_path_is_told_where_to_look(client: httpx.AsyncClient, path: str) -> None:
    """No guess is made."""
    answer = await client.get(path)

    assert answer.status_code == 404
    assert "Did you mean" not in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", URL), ("POST", URL), ("GET", "/x"), ("GET", "/docs")]
)
async def test_every_answer_is_safe_in_a_browser(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    """It is kept nowhere, taken for nothing else and shown in no frame."""
    answer = await client.request(method, path, json=REQUEST if method == "POST" else None)

    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_lists_say_whether_more_follows_to_clients_that_need_it(
    client: httpx.AsyncClient,
) -> None:
    """Only generated clients are told; all others get the closed form."""
    plain = await client.get(URL)
    told = await client.get(URL, headers={"x-stainless-lang": "js"})

    assert "has_more" not in plain.json()
    assert told.json() == {**plain.json(), "has_more": True}


SECRETS = ["mk-" + "a1B2" * 8, "sk-proj-" + "x" * 30, "AIza" + "Y" * 35]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["/v1/models/{}", "/{}", "/v1/nothing?key={}", "/v1/x/%6D{}"])
async def test_a_key_in_a_path_is_not_logged(
    edge: Any, client: httpx.AsyncClient, secret: str, place: str
) -> None:
    """Whoever puts it there has made a mistake that no log repeats."""
    path = place.format(secret.removeprefix("m") if "%6D" in place else secret)
    answer = await client.get(path)
    await edge.record(answer.headers["x-request-id"])

    assert secret[6:] not in "\n".join(edge.lines)


@pytest.fixture(name="page")
def fixture_page() -> dict[str, str]:
    return {"origin": "https://app.example.com"}


PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


async def test_pages_of_configured_origins_may_call(
    start_edge: Any, core: Any, page: dict[str, str]
) -> None:
    """Preflights need no key, answers can be read, and other origins are told nothing."""
    origins = "https://app.example.com, http://localhost:3000"
    async with start_edge(core.target, cors_origins=origins) as edge, edge.client() as client:
        preflight = await client.options(URL, headers={**page, **PREFLIGHT})
        answer = await client.post(URL, json=REQUEST, headers=page)
        refused = await client.get("/v1/nothing", headers=page)
        other = await client.post(URL, json=REQUEST, headers={"origin": "https://evil.example"})

    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"
    for each in (preflight, answer, refused):
        assert each.headers["access-control-allow-origin"] == page["origin"]
        assert each.headers["vary"] == "Origin"
        assert "x-ratelimit-remaining" in each.headers["access-control-expose-headers"]
        assert "x-request-id" in each.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in other.headers


async def test_no_page_may_call_unless_it_is_configured(
    client: httpx.AsyncClient, page: dict[str, str]
) -> None:
    """It is off by default."""
    preflight = await client.options(URL, headers={**page, **PREFLIGHT})

    assert "access-control-allow-origin" not in preflight.headers


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cors_origins", "app.example.com"),
        ("cors_origins", "https://a.example/path"),
        ("trusted_proxies", "10.0.0.0/99"),
        ("trusted_proxies", "proxy.internal"),
    ],
)
def test_a_network_or_an_origin_that_is_none_is_refused(key: str, value: str) -> None:
    """The message names the setting or the value."""
    from maniac_common.config_file import ConfigError
    from maniac_edge.config import load

    with pytest.raises(ConfigError, match=json.dumps(value)[1:-1].replace(".", r"\.")):
        load(None, {f"MANIAC_EDGE__{key.upper()}": value})
