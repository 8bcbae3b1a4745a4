"""What several clients do to the same resource at the same time."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from gateway import KEY, Gateway

_ROUNDS = 20
_CONTAINER = {"initial_model": "mock/m1"}
_JUDGE = {"type": "judge", "model": "mock/m1", "prompt": "Is A as good as B?"}


def client(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60
    )


async def change_at_once(
    http: httpx.AsyncClient, path: str, changes: list[dict[str, Any]]
) -> dict[str, Any]:
    """Send each change by itself, all at the same time, and return what the resource is like then."""
    answers = await asyncio.gather(*(http.patch(path, json=change) for change in changes))
    assert [answer.status_code for answer in answers] == [200] * len(changes)
    found: dict[str, Any] = (await http.get(path)).json()
    return found


async def test_changes_of_different_fields_of_a_container_are_all_kept(gateway: Gateway) -> None:
    """Whoever was answered 200 finds his change there, whatever others changed meanwhile."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    async with client(gateway) as http:
        made = await http.post("/v1/containers", json={"label": label, **_CONTAINER})
        assert made.status_code == 200, made.text
        for number in range(_ROUNDS):
            changes: list[dict[str, Any]] = [
                {"default_system_prompt": f"prompt {number}"},
                {"default_parameters": {"seed": number}},
                {"default_model": f"mock/m{number}"},
            ]
            found = await change_at_once(http, f"/v1/containers/{label}", changes)
            model = await http.get("/v1/models", params={"container": label, "limit": 1})

            assert found["default_system_prompt"] == f"prompt {number}"
            assert found["default_parameters"] == {"seed": number}
            assert model.json()["data"][0]["id"] == f"mock/m{number}"


async def test_changes_of_different_fields_of_an_evaluator_are_all_kept(gateway: Gateway) -> None:
    """Of its own fields as well as of those of its rule."""
    name = f"evaluator-{uuid.uuid4().hex[:8]}"
    async with client(gateway) as http:
        made = await http.post("/v1/evaluators", json={"name": name, **_JUDGE})
        assert made.status_code == 200, made.text
        for number in range(_ROUNDS):
            changes: list[dict[str, Any]] = [
                {"description": f"description {number}"},
                {"pass_threshold": number},
                {"prompt": f"prompt {number}"},
                {"metadata": {"number": number}},
            ]
            found = await change_at_once(http, f"/v1/evaluators/{name}", changes)

            assert found == {
                **made.json(),
                **{key: value for change in changes for key, value in change.items()},
            }


async def test_an_export_of_a_dataset_that_is_deleted_meanwhile_does_not_look_whole(
    gateway: Gateway,
) -> None:
    """Its reader is told that there is no end, in any form of the content."""
    label = f"box-{uuid.uuid4().hex[:8]}"
    # More than what all the buffers between the database and a client that waits can hold.
    asked = {"messages": [{"role": "user", "content": "x" * 1_000_000}]}
    answer = {"choices": [{"message": {"role": "assistant", "content": "y"}}]}
    items = [{"input": asked, "output": answer}] * 40
    async with client(gateway) as http:
        await http.post("/v1/containers", json={"label": label, **_CONTAINER})
        body = {"container": label, "items": items}
        registered = await http.post("/v1/chat/completions/register", json=body)
        assert registered.json()["summary"]["inserted"] == len(items), registered.text
        for form in ("full", "fine_tuning"):
            body = {"name": "large", "container": label, "size": len(items)}
            made = (await http.post("/v1/datasets", json=body)).json()
            path = f"/v1/datasets/{made['id']}"
            async with http.stream("GET", f"{path}/content?format={form}") as response:
                assert response.status_code == 200
                pieces = response.aiter_raw()
                assert await anext(pieces)
                assert (await http.delete(path)).status_code == 200
                with pytest.raises(httpx.RemoteProtocolError):
                    async for _ in pieces:
                        pass
