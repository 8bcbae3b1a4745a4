"""Budgets are not overspent by what a prompt holds: a provider that charges by its published rules, 100 at once."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cli import run_command
from gateway import Gateway
from media_files import data_url, file_part, image_part, jpeg, pdf, png
from upstream import Exchange, Upstream

CONFIG = """
[core]
rate_limit = 1000000
local_model = "off"
[providers.openai]
base_url = "{base_url}"
[providers.anthropic]
base_url = "{root}"
[providers.gemini]
base_url = "{root}"
"""
KEYS = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "sk-test")
MAX_TOKENS = 50
_chance = random.Random(5)
CSV = ",".join(str(_chance.randrange(10)) for _ in range(5_000))
BASE64 = base64.b64encode(_chance.randbytes(7_500)).decode()
CJK = "".join(chr(_chance.randrange(0x4E00, 0x9FFF)) for _ in range(3_000))
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "enum": [CSV]}}}
]
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    # name: model, changes of the request, tokens that the provider counts for its prompt
    "an image": ("openai/gpt-4o-mini", {"content": [image_part(data_url(png(1024, 1024), "image/png"))]}, 25_510),
    "a large image": (
        "openai/gpt-4o-mini",
        {"content": [image_part(data_url(jpeg(4032, 3024, profile=100_000), "image/jpeg"))]},
        2_833 + 4 * 5_667 + 9,
    ),
    "an image by its URL": (
        "openai/gpt-4o",
        {"content": [image_part("https://example.com/a.png"), image_part("https://example.com/b")]},
        2 * (85 + 8 * 170) + 9,
    ),
    "images at Claude": (
        "anthropic/claude-sonnet-4-5",
        {"content": [image_part(data_url(png(1568, 1000), "image/png"))] * 5},
        5 * 2_091 + 9,
    ),
    "a document at Claude": (
        "anthropic/claude-sonnet-4-5",
        {"content": [file_part(data_url(pdf(50, is_compressed=True), "application/pdf"))]},
        50 * (3_000 + 1_600) + 9,
    ),
    "a document at Gemini": (
        "gemini/gemini-2.5-flash",
        {"content": [file_part(data_url(pdf(200), "application/pdf"))]},
        200 * 258 + 9,
    ),
    "sound at Gemini": (
        "gemini/gemini-2.5-flash",
        {"content": [file_part(data_url(b"ID3" + bytes(60_000), "audio/mp3"))]},
        60 * 32 + 9,
    ),
    "small numbers": ("openai/gpt-4o", {"content": CSV}, len(CSV) + 9),
    "base64": ("openai/gpt-4o", {"content": BASE64}, len(BASE64) + 9),
    "another script": ("gemini/gemini-2.5-flash", {"content": CJK}, len(CJK.encode()) + 9),
    "tools": ("openai/gpt-4o", {"content": "Hi", "tools": TOOLS}, len(CSV) + 100),
    "a schema": (
        "openai/gpt-4o",
        {"content": "Hi", "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [CSV]}}}},
        len(CSV) + 100,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bounded(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = _upstream.base_url.removesuffix("/v1")
    gateway = Gateway(
        tmp_path_factory.mktemp("bounded"),
        CONFIG.format(base_url=_upstream.base_url, root=root),
        environ=KEYS,
    )
    gateway.start()
    yield gateway
    gateway.stop()


def _answer(path: str, prompt: int) -> dict[str, Any]:
    """Return an answer with this usage in the form of the provider that is asked."""
    if "messages" in path:
        return {
            "content": [{"type": "text", "text": "x"}],
            "stop_reason": "max_tokens",
            "usage": {"input_tokens": prompt, "output_tokens": MAX_TOKENS},
        } | {"id": "m", "type": "message", "role": "assistant", "model": "m"}
    if "generateContent" in path:
        content = {"role": "model", "parts": [{"text": "x"}]}
        return {
            "candidates": [{"content": content, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": MAX_TOKENS},
        }
    message = {"role": "assistant", "content": "x"}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": MAX_TOKENS},
    } | {"id": "c", "object": "chat.completion", "model": "m"}


def _client(gateway: Gateway, *options: str) -> httpx.AsyncClient:
    secret = run_command(gateway, "keys", "create", "--create-project", *options).strip()
    return httpx.AsyncClient(
        base_url=gateway.url,
        headers={"authorization": f"Bearer {secret}"},
        timeout=120,
        limits=httpx.Limits(max_connections=100),
    )


def _body(model: str, changes: dict[str, Any]) -> dict[str, Any]:
    others = {key: value for key, value in changes.items() if key != "content"}
    messages = [{"role": "user", "content": changes["content"]}]
    return {"model": model, "messages": messages, "max_tokens": MAX_TOKENS, **others}


@pytest.mark.parametrize("case", CASES)
def test_a_hundred_at_once_never_spend_more_than_the_budget(
    bounded: Gateway, upstream: Upstream, case: str
) -> None:
    """Some are answered, the others refused, and what is charged fits."""
    model, changes, prompt = CASES[case]
    body = _body(model, changes)

    async def charge(exchange: Exchange) -> None:
        await exchange.respond(200, json.dumps(_answer(exchange.path, prompt)).encode())

    upstream.handler = charge
    organization = case.replace(" ", "-")

    async def crowd() -> tuple[float, list[int]]:
        async with _client(bounded, "--organization", organization) as free:
            assert (await free.post("/v1/chat/completions", json=body)).status_code == 200
            listed = (await free.get("/v1/chat/completions")).json()
            cost = listed["data"][0]["spend"]
        limit = cost * 20
        async with _client(
            bounded, "--budget-usd", f"{limit:.9f}", "--organization", organization
        ) as one:
            sent = (one.post("/v1/chat/completions", json=body) for _ in range(100))
            answers = await asyncio.gather(*sent)
            return cost, [answer.status_code for answer in answers]

    cost, statuses = asyncio.run(crowd())
    assert set(statuses) == {200, 402}
    assert statuses.count(200) * cost <= cost * 20
    lines = run_command(bounded, "budgets", "list").splitlines()
    limit, spent = next(line.split()[-5:-3] for line in lines if line.startswith(organization))
    assert 0 < float(spent) <= float(limit)


def test_what_cannot_be_counted_is_refused(bounded: Gateway, upstream: Upstream) -> None:
    """A file that is only named may have any number of pages: with a budget that is a 402, without it is sent."""

    async def ask(*options: str) -> httpx.Response:
        content = [{"type": "file", "file": {"file_id": "file-1"}}]
        async with _client(bounded, *options) as client:
            return await client.post(
                "/v1/chat/completions", json=_body("openai/gpt-4o", {"content": content})
            )

    refused = asyncio.run(ask("--budget-usd", "100"))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (402, "insufficient_balance")
    assert error["param"] == "messages[0].content[0].file"
    assert "data URL" in error["message"]
    assert upstream.exchanges == []
    assert asyncio.run(ask()).status_code == 200
