"""Bodies encrypted at rest, through the whole gateway."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

import httpx
from cli import run_command
from gateway import CONFIG, KEY, Gateway
from upstream import Upstream

_HEADERS = {"authorization": f"Bearer {KEY}"}


def _key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def _ask(gateway: Gateway, text: str) -> str:
    request = {"model": "maniac:sealed", "messages": [{"role": "user", "content": text}]}
    url = f"{gateway.base_url}/chat/completions"
    answer = httpx.post(url, json=request, headers=_HEADERS, timeout=30).raise_for_status()
    return str(answer.json()["id"])


def test_what_was_asked_is_read_back_and_lies_nowhere(
    upstream: Upstream, start_gateway: Callable[..., Gateway]
) -> None:
    """Completions, exports and datasets show the content, and no file of the data folder holds it."""
    secrets = ["first-secret-phrase", "second-secret-phrase"]
    gateway = start_gateway(CONFIG.format(base_url=upstream.base_url))
    container = {"label": "sealed", "initial_model": "mock/m1"}
    with httpx.Client(base_url=gateway.url, headers=_HEADERS, timeout=30) as client:
        client.post("/v1/containers", json=container).raise_for_status()
        _ask(gateway, secrets[0])
    gateway.stop()
    old, gateway.environ["MANIAC_BODY_KEY"] = _key(), _key()
    gateway.environ["MANIAC_BODY_KEY"] += f",{old}"
    gateway.start()
    with httpx.Client(base_url=gateway.url, headers=_HEADERS, timeout=30) as client:
        _ask(gateway, secrets[1])
        wanted = {"name": "all", "container": "sealed", "size": 10}
        refused = client.post(
            "/v1/datasets",
            json={
                **wanted,
                "filters": [{"key": "input.text", "operator": "contains", "value": "x"}],
            },
        )
        dataset = client.post("/v1/datasets", json=wanted).raise_for_status().json()["id"]
        items = client.get(f"/v1/datasets/{dataset}/content").raise_for_status().text
        exported = run_command(gateway, "export", "--container", "sealed")
    gateway.stop()
    said = run_command(gateway, "encrypt-bodies")
    lying = [
        (path.name, secret)
        for path in gateway.data_dir.rglob("*")
        if path.is_file()
        for secret in secrets
        if secret.encode() in path.read_bytes()
    ]

    assert refused.status_code == 422
    assert "encrypted" in refused.json()["error"]["message"]
    for secret in secrets:
        assert secret in items
        assert secret in exported
    assert said == "encrypted 1 completions with the first key\n"
    # What SQLite freed is overwritten only when it is used again; what was sealed from the start never lay there.
    assert [found for found in lying if found[1] == secrets[1]] == []
