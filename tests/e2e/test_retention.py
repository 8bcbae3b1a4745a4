"""What clients see of completions whose content is no longer kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from cli import run_command
from gateway import CONFIG, Gateway
from registering import INPUT, output
from upstream import Upstream


@pytest.mark.long
def test_content_that_is_too_old_is_gone_everywhere_but_from_datasets(
    start_gateway: Callable[..., Gateway], upstream: Upstream
) -> None:
    """Lists, single records, explanations, exports and sums go on, without content; a dataset has it still."""
    config = CONFIG.format(base_url=upstream.base_url)
    gateway = start_gateway(config.replace("[core]\n", "[core]\nbody_retention_days = 1\n", 1))
    with gateway.client() as client:
        client.post("/v1/containers", json={"label": "box", "initial_model": "mock/m1"})
        items = [
            {"input": INPUT, "output": output("Old", id=name, created=1_600_000_000)}
            for name in ("old", "taken")
        ]
        path = "/v1/chat/completions"
        client.post(f"{path}/register", json={"container": "box", "items": items})
        body = {"model": "maniac:box", "messages": [{"role": "user", "content": "Hi"}]}
        young = client.post(path, json=body).json()["id"]
        only = [{"key": "id", "operator": "equals", "value": "taken"}]
        wanted = {"name": "d", "container": "box", "size": 9}
        dataset = client.post("/v1/datasets", json={**wanted, "filters": only}).json()["id"]
        # The next round is hours away; the first one is at the start.
        gateway.stop()
        gateway.start()
        deadline = time.monotonic() + 60
        while client.get(f"{path}/old").json()["choices"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        listed = client.get(path).json()
        explained = client.get(f"{path}/old/explain")
        taken = client.get(f"/v1/datasets/{dataset}/content").text
        later = client.post("/v1/datasets", json=wanted).json()["id"]
        later_size = client.get(f"/v1/datasets/{later}").json()["size"]
        usage = client.get("/v1/usage", params={"from": "2020-09-13"}).json()["totals"]
    exported = [json.loads(line) for line in run_command(gateway, "export").splitlines()]

    contents = {
        item["id"]: [choice["message"]["content"] for choice in item["choices"]]
        for item in listed["data"]
    }
    assert contents == {"old": [], "taken": ["Old"], young: ["Hello!"]}
    assert listed["total"] == 3
    assert explained.status_code == 200
    assert explained.json()["candidates"] == []
    assert json.loads(taken)["output"]["choices"][0]["message"]["content"] == "Old"
    assert later_size == 2
    assert usage["request_count"] >= 1
    inputs = {line["output"]["id"]: line["input"] is None for line in exported}
    assert inputs == {"old": True, "taken": False, young: False}
