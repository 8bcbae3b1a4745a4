"""The official `maniac` package, unmodified, against real processes."""

from __future__ import annotations

import json

import pytest
from gateway import KEY, Gateway
from upstream import Exchange, Upstream, chunk

MESSAGES = [{"role": "user", "content": "Hi"}]


def text_of(chunks: list[str]) -> str:
    """Return the text of a stream; this client yields the payloads as strings."""
    assert chunks[-1] == "[DONE]"
    deltas = [json.loads(chunk)["choices"] for chunk in chunks[:-1]]
    return "".join(choice["delta"].get("content") or "" for delta in deltas for choice in delta)


@pytest.mark.usefixtures("upstream")
def test_chat_methods_of_the_synchronous_client(gateway: Gateway) -> None:
    """create, streamed create, list with a metadata filter, and get."""
    import maniac

    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        made = client.chat.completions.create(
            model="mock/m1", messages=MESSAGES, tags=["t"], metadata={"by": "maniac"}
        )
        streamed = list(
            client.chat.completions.create(model="mock/m1", messages=MESSAGES, stream=True)
        )
        listed = client.chat.completions.list(metadata={"by": "maniac"})
        found = client.chat.completions.retrieve(made["id"])

    assert made["choices"][0]["message"]["content"] == "Hello!"
    assert made["provider"] == "mock"
    assert text_of(streamed) == "Hello!"
    assert [item["id"] for item in listed["data"]] == [made["id"]]
    assert found["tags"] == ["t"]


@pytest.mark.usefixtures("upstream")
async def test_chat_methods_of_the_asynchronous_client(gateway: Gateway) -> None:
    """The same, asynchronously."""
    import maniac

    async with maniac.AsyncManiac(api_key=KEY, base_url=gateway.url) as client:
        made = await client.chat.completions.create(model="mock/m1", messages=MESSAGES)
        stream = await client.chat.completions.create(
            model="mock/m1", messages=MESSAGES, stream=True
        )
        streamed = [chunk async for chunk in stream]
        listed = await client.chat.completions.list(limit=1)
        found = await client.chat.completions.retrieve(made["id"])

    assert text_of(streamed) == "Hello!"
    assert len(listed["data"]) == 1
    assert found["usage"]["total_tokens"] == 12


def test_error_classes(gateway: Gateway, upstream: Upstream) -> None:
    """Refusals raise the client's own classes with the gateway's message."""
    import maniac

    async def limited(exchange: Exchange) -> None:
        await exchange.respond(429, b'{"error":{"message":"slow down"}}', retry_after="1.5")

    with (
        maniac.Maniac(api_key="no", base_url=gateway.url, max_retries=0) as stranger,
        pytest.raises(maniac.AuthenticationError),
    ):
        stranger.chat.completions.create(model="mock/m1", messages=MESSAGES)

    with maniac.Maniac(api_key=KEY, base_url=gateway.url, max_retries=0) as client:
        with pytest.raises(maniac.NotFoundError, match="There is no model 'nobody/nothing'"):
            client.chat.completions.create(model="nobody/nothing", messages=MESSAGES)
        upstream.handler = limited
        with pytest.raises(maniac.RateLimitError, match="slow down"):
            client.chat.completions.create(model="mock/m1", messages=MESSAGES)


def test_an_error_in_mid_stream_is_a_frame_before_the_end(
    gateway: Gateway, upstream: Upstream
) -> None:
    """This client yields frames as they are: the error, then [DONE]."""
    import maniac

    async def cut(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event(chunk("Hel"))
        exchange.close()

    upstream.handler = cut
    with maniac.Maniac(api_key=KEY, base_url=gateway.url) as client:
        frames = list(
            client.chat.completions.create(model="mock/m1", messages=MESSAGES, stream=True)
        )

    assert json.loads(frames[-2])["error"]["type"] == "api_error"
    assert frames[-1] == "[DONE]"
