"""How a stream travels: in time, alive while idle, with its true status, and let go at once."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from gateway import Gateway
from upstream import Exchange, Upstream, chunk

BODY: dict[str, Any] = {
    "model": "mock/m1",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
}


def test_chunks_arrive_one_by_one(gateway: Gateway, upstream: Upstream) -> None:
    """A chunk reaches the client before the provider sends the next one."""
    received = upstream.event()

    async def step_by_step(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for i in range(5):
            received.clear()
            await exchange.event(chunk(f"step {i}"))
            # Sent on only when the client has it: a gateway that holds chunks back never gets here.
            await received.wait()
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    upstream.handler = step_by_step
    seen = []
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=BODY) as response,
    ):
        for line in response.iter_lines():
            if "step" in line:
                seen.append(
                    json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"]
                )
                upstream.set(received)

    assert seen == [f"step {i}" for i in range(5)]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-store"
    assert response.headers["x-accel-buffering"] == "no"


def test_an_idle_stream_gets_comments_before_and_after_the_first_token(
    gateway: Gateway, upstream: Upstream
) -> None:
    """Silence of the provider is bridged by comment lines, also before the first token."""
    first, second = upstream.event(), upstream.event()

    async def slow(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await first.wait()
        await exchange.event(chunk("late"))
        await second.wait()
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    upstream.handler = slow
    lines: list[str] = []
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=BODY) as response,
    ):
        for line in response.iter_lines():
            lines.append(line)
            if line.startswith(":"):
                upstream.set(second if any("late" in seen for seen in lines) else first)

    late = next(i for i, line in enumerate(lines) if "late" in line)
    assert any(line.startswith(":") for line in lines[:late])
    assert any(line.startswith(":") for line in lines[late:])
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_the_last_byte_waits_for_the_record(gateway: Gateway, upstream: Upstream) -> None:
    """When a client has seen [DONE], its completion can be read back at once."""
    with gateway.client() as client:
        for _ in range(20):
            text = client.post("/v1/chat/completions", json=BODY).text
            completion_id = json.loads(text.split("\n")[0].removeprefix("data: "))["id"]

            assert text.endswith("data: [DONE]\n\n")
            assert client.get(f"/v1/chat/completions/{completion_id}").status_code == 200
    assert len(upstream.exchanges) == 20


@pytest.mark.parametrize("stage", ["before headers", "before first token", "mid-stream"])
def test_a_client_that_goes_away_stops_the_provider_within_100_ms(
    gateway: Gateway, upstream: Upstream, stage: str
) -> None:
    """Whatever the stage, the provider's connection closes as soon as the client's has."""

    async def wait(exchange: Exchange) -> None:
        if stage != "before headers":
            await exchange.begin_stream()
        if stage == "mid-stream":
            await exchange.event(chunk("Hel"))
        await exchange.wait_until_gone()

    upstream.handler = wait

    async def leave() -> float:
        before = len(upstream.exchanges)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps(BODY).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
            b"content-length: %d\r\n\r\n%s"
            % (gateway.environ["MANIAC_API_KEY"].encode(), len(body), body)
        )
        await asyncio.to_thread(upstream.wait_for_requests, before + 1)
        if stage == "mid-stream":
            await reader.readuntil(b"Hel")
        left = time.monotonic()
        writer.close()
        assert await asyncio.to_thread(upstream.last.gone.wait, 60)
        return time.monotonic() - left

    # A busy machine may be late, but not always.
    assert any(asyncio.run(leave()) < 0.1 for _ in range(20))


def test_headers_of_a_stream_that_opens_with_a_comment_are_complete(
    gateway: Gateway, upstream: Upstream
) -> None:
    """A stream whose first bytes are a comment, because the provider thinks, tells the rate limit as any other."""
    first = upstream.event()

    async def late(exchange: Exchange) -> None:
        await first.wait()
        await exchange.stream(["late"])

    upstream.handler = late
    with (
        gateway.client() as client,
        client.stream("POST", "/v1/chat/completions", json=BODY) as response,
    ):
        upstream.set(first)
        text = "".join(response.iter_text())

    assert text.startswith(": keep-alive")
    assert text.endswith("data: [DONE]\n\n")
    assert int(response.headers["x-ratelimit-limit"]) == 1_000_000
    assert "x-ratelimit-remaining" in response.headers
    assert "x-ratelimit-reset" in response.headers


def test_only_the_first_chunk_has_a_role(gateway: Gateway, upstream: Upstream) -> None:
    """The role comes once, also if the provider sends it beside content: clients that add up deltas add up roles."""

    async def role_beside_content(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("Hel", role="assistant"))
        await exchange.event(chunk("lo", role="assistant"))
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    upstream.handler = role_beside_content
    with gateway.client() as client:
        text = client.post("/v1/chat/completions", json=BODY).text
    deltas = [
        json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
        for line in text.splitlines()
        if line.startswith("data: {")
    ]

    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]


def test_annotations_audio_and_images_arrive_and_are_captured(
    gateway: Gateway, upstream: Upstream
) -> None:
    """Each piece comes as it was sent, the record has the whole, and a repeat under the same key has it too."""
    pieces: list[dict[str, Any]] = [
        {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
        {"audio": {"id": "a1", "data": "YQ==", "transcript": "Hel"}},
        {"audio": {"data": "Yg==", "transcript": "lo"}},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]},
    ]

    async def sing(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for piece in pieces:
            await exchange.event(chunk(None, **piece))
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    def deltas(text: str) -> list[dict[str, Any]]:
        events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
        return [event["choices"][0]["delta"] for event in events if event["choices"]]

    upstream.handler = sing
    with gateway.client() as client:
        client.headers["idempotency-key"] = "song"
        text = client.post("/v1/chat/completions", json=BODY).text
        repeated = client.post("/v1/chat/completions", json=BODY).text
        [completion_id] = {
            json.loads(line[6:])["id"] for line in text.split("\n\n") if line.startswith("data: {")
        }
        stored = client.get(f"/v1/chat/completions/{completion_id}").json()

    whole = {**pieces[0], **pieces[3]}
    whole["audio"] = {"id": "a1", "data": "YWI=", "transcript": "Hello"}
    assert [delta for delta in deltas(text) if delta and "role" not in delta] == pieces
    assert {**whole, "role": "assistant", "content": None} == stored["choices"][0]["message"]
    assert whole in deltas(repeated)
