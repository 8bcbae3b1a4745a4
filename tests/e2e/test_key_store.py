"""A key store that fails: nobody is told that a key is wrong when it could not be looked up."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

import httpx
from gateway import CONFIG, Gateway
from upstream import Upstream


def test_a_key_that_cannot_be_looked_up_is_a_503(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """While keys cannot be read an uncached one gets 503 `auth_unavailable`; once they can, the 401 it deserves."""
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    unknown = {"authorization": "Bearer mk-nobody"}
    url = f"{gateway.base_url}/chat/completions"
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        database.execute("ALTER TABLE api_keys RENAME TO api_keys_gone")
        database.commit()
        failed = httpx.get(url, headers=unknown, timeout=20)
        database.execute("ALTER TABLE api_keys_gone RENAME TO api_keys")
        database.commit()
    refused = httpx.get(url, headers=unknown, timeout=20)

    assert failed.status_code == 503
    assert failed.json()["error"]["type"] == "api_error"
    assert failed.json()["error"]["code"] == "auth_unavailable"
    assert int(failed.headers["retry-after"]) >= 1
    assert "x-ratelimit-limit" in failed.headers
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_an_outage_of_the_key_store_is_not_told_as_a_limit(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """Whoever goes on asking is told 503, and not to wait for the window of an address that good keys come from."""
    config = CONFIG.format(base_url=upstream.base_url)
    gateway = start_gateway(config.replace("rate_limit = 1000000", "rate_limit = 2"))
    unknown = {"authorization": "Bearer mk-nobody"}
    url = f"{gateway.base_url}/chat/completions"
    with contextlib.closing(sqlite3.connect(gateway.data_dir / "gateway.db")) as database:
        database.execute("ALTER TABLE api_keys RENAME TO api_keys_gone")
        database.commit()
        statuses = [httpx.get(url, headers=unknown, timeout=20).status_code for _ in range(4)]

    assert statuses == [503] * 4
