"""The `openai` package, unmodified, against real processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from gateway import KEY, Gateway
from upstream import Exchange, Upstream

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.usefixtures("upstream")
def test_create_returns_the_answer_with_identity_and_usage(client: openai.OpenAI) -> None:
    """A whole answer carries its text, the slug that served it, the provider and the usage."""
    answer = client.chat.completions.create(model="mock/m1", messages=MESSAGES)

    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "mock/m1"
    assert answer.model_extra == {"provider": "mock", "container": None}
    assert answer.usage.total_tokens == 12


@pytest.mark.usefixtures("upstream")
def test_stream_concatenates_to_the_answer_and_ends_with_usage(client: openai.OpenAI) -> None:
    """A stream yields a role, the text in pieces, a finish reason, and usage because it was asked for."""
    chunks = list(
        client.chat.completions.create(
            model="mock:m1",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert text == ["", "Hel", "lo", "!", ""]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 12


@pytest.mark.usefixtures("upstream")
def test_stream_without_the_option_has_no_usage(client: openai.OpenAI) -> None:
    """Usage is asked of the provider always, and given to the client only when it asked."""
    chunks = list(client.chat.completions.create(model="mock/m1", messages=MESSAGES, stream=True))

    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_the_streaming_helper_adds_up_one_message(client: openai.OpenAI) -> None:
    """The package's own accumulation of a stream gives the answer, its role once."""
    with client.chat.completions.stream(
        model="mock/m1", messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        message = stream.get_final_completion().choices[0].message

    assert (message.role, message.content) == ("assistant", "Hello!")


async def test_async_client_creates_streams_and_reads_back(
    async_client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    """The asynchronous client sees the same, and the stored completion under the id of its chunks."""
    answer = await async_client.chat.completions.create(model="mock/m1", messages=MESSAGES)
    stream = await async_client.chat.completions.create(
        model="mock/m1", messages=MESSAGES, stream=True
    )
    ids = {chunk.id async for chunk in stream}

    assert upstream.last.json["stream_options"] == {"include_usage": True}
    for completion_id in (answer.id, *ids):
        stored = await async_client.chat.completions.retrieve(completion_id)
        assert stored.choices[0].message.content == "Hello!"
        assert stored.usage.total_tokens == 12


@pytest.mark.usefixtures("upstream")
def test_list_pages_by_cursor_and_ends(client: openai.OpenAI) -> None:
    """Iterating over the list follows `after` to the last record, each once, newest first."""
    made = [
        client.chat.completions.create(
            model="mock/m1", messages=MESSAGES, metadata={"batch": "paging"}
        ).id
        for _ in range(5)
    ]

    listed = [
        stored.id for stored in client.chat.completions.list(limit=2, metadata={"batch": "paging"})
    ]

    assert listed == made[::-1]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, openai.BadRequestError),
        (401, openai.InternalServerError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_provider_errors_raise_the_right_class(
    client: openai.OpenAI,
    upstream: Upstream,
    status: int,
    expected: type[openai.APIStatusError],
    *,
    stream: bool,
) -> None:
    """A provider's error reaches the client as the class of its true status, also before a stream."""

    async def refuse(exchange: Exchange) -> None:
        error = {
            "error": {
                "message": "The model said no.",
                "type": "some_error",
                "code": None,
                "param": None,
            }
        }
        await exchange.respond(status, json.dumps(error).encode())

    upstream.handler = refuse
    with pytest.raises(expected) as caught:
        client.chat.completions.create(model="mock/m1", messages=MESSAGES, stream=stream)

    assert caught.value.body["message"]
    assert caught.value.request_id


def test_bad_key_is_an_authentication_error(gateway: Gateway) -> None:
    """An unknown key is a 401 before anything else is looked at."""
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key="mk-unknown", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model="mock/m1", messages=[])

    assert caught.value.code == "invalid_api_key"


def test_error_in_mid_stream_raises(client: openai.OpenAI, upstream: Upstream) -> None:
    """A stream that breaks after its first content raises, and never ends as if it were whole."""

    async def cut(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.event({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})
        exchange.reset()

    upstream.handler = cut
    stream = client.chat.completions.create(model="mock/m1", messages=MESSAGES, stream=True)
    text: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        text.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert "".join(text) == "Hel"
    assert caught.value.code == "upstream_error"
