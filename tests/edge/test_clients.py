"""The clients people use, against a real edge."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def async_client(edge: Any, **options: Any) -> AsyncOpenAI:
    """Return the openai client."""
    options.setdefault("max_retries", 0)
    return AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="mk-test", **options)


async def test_openai_creates(edge: Any, core: Any) -> None:
    """`chat.completions.create` returns the answer with its usage, and parameters arrive."""
    async with async_client(edge) as client:
        answer = await client.chat.completions.create(
            model="openai/gpt-4o", messages=MESSAGES, temperature=0.5, extra_body={"top_k": 4}
        )
    params = core.asked("create")[0].params

    assert answer.choices[0].message.content == "Hello."
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer._request_id
    assert (params.temperature, params.extra_json) == (0.5, b'{"top_k":4}')


async def test_openai_streams_with_usage(edge: Any, core: Any) -> None:
    """A stream yields its deltas, then usage."""
    del core
    async with async_client(edge) as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


async def test_openai_works_without_async(edge: Any, core: Any) -> None:
    """The synchronous client creates and streams at the older base path."""
    del core

    def run() -> tuple[str | None, list[str | None]]:
        with OpenAI(base_url=f"{edge.url}/api/v1", api_key="k", max_retries=0) as client:
            answer = client.chat.completions.create(model="m", messages=MESSAGES)
            stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return answer.choices[0].message.content, [
                chunk.choices[0].delta.content for chunk in stream
            ]

    assert await asyncio.to_thread(run) == ("Hello.", ["", "Hello", "."])


async def test_openai_lists_page_by_page(edge: Any, core: Any) -> None:
    """Iterating over the list asks for what follows the last id, until a page is empty."""

    async def page(request: Any, _: Any) -> Any:
        from maniac_gateway.v1 import chat_pb2

        ids = {"": ["a", "b"], "b": ["c"]}.get(request.page_token, [])
        completions = [core.stored_completion(name) for name in ids]
        return chat_pb2.ListChatCompletionsResponse(completions=completions, total_size=3)

    core.on_list = page
    async with async_client(edge) as client:
        listed = [
            item.id
            async for item in client.chat.completions.list(
                limit=2, metadata={"k": "v"}, order="asc"
            )
        ]
        one = await client.chat.completions.retrieve("chatcmpl-7")
    first = core.asked("list")[0]

    assert listed == ["a", "b", "c"]
    assert (first.page_size, first.ascending) == (2, True)
    assert first.filter.metadata_json == b'{"k":"v"}'
    assert one.id == "chatcmpl-7"


CLASSES: list[tuple[str, type[openai.APIStatusError]]] = [
    ("INVALID_VALUE", openai.BadRequestError),
    ("INVALID_API_KEY", openai.AuthenticationError),
    ("INSUFFICIENT_SCOPE", openai.PermissionDeniedError),
    ("MODEL_NOT_FOUND", openai.NotFoundError),
    ("CONFLICT", openai.ConflictError),
    ("VALIDATION_ERROR", openai.UnprocessableEntityError),
    ("RATE_LIMIT_EXCEEDED", openai.RateLimitError),
    ("UPSTREAM_ERROR", openai.InternalServerError),
]


@pytest.mark.parametrize(("reason", "kind"), CLASSES)
async def test_openai_raises_its_own_classes(
    edge: Any, core: Any, reason: str, kind: type[openai.APIStatusError]
) -> None:
    """Each failure is the client's own exception, with code, type and param."""

    async def refuse(_: Any, context: Any) -> None:
        await core.fail(context, reason, "It failed.", metadata={"param": "model"})

    core.on_create = refuse
    async with async_client(edge) as client:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)

    assert caught.value.code == reason.lower()
    assert caught.value.param == "model"
    assert caught.value.type


async def test_openai_raises_on_a_broken_stream(edge: Any, core: Any) -> None:
    """A stream that breaks after its first chunk raises instead of ending."""

    async def break_off(_: Any, context: Any) -> Any:
        yield core.chunk(content="a")
        await core.fail(context, "UPSTREAM_ERROR", "It broke.")

    core.on_stream = break_off
    async with async_client(edge) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        chunks = aiter(stream)
        first = await anext(chunks)
        with pytest.raises(openai.APIError, match="It broke"):
            await anext(chunks)

    assert first.choices[0].delta.content == "a"


@pytest.mark.parametrize(("reason", "calls"), [("CONFLICT", 1), ("UPSTREAM_OVERLOADED", 2)])
async def test_openai_retries_what_can_succeed(
    edge: Any, core: Any, reason: str, calls: int
) -> None:
    """The client repeats a failure that may pass, and no other."""

    async def refuse(_: Any, context: Any) -> None:
        await core.fail(context, reason)

    core.on_create = refuse
    async with async_client(edge, max_retries=1) as client:
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(model="m", messages=MESSAGES)

    assert len(core.asked("create")) == calls


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # Of the package's own types.
async def test_maniac_creates_streams_and_lists(edge: Any, core: Any) -> None:
    """The maniac package's chat methods work, the filter in the body of a GET among them."""
    import maniac

    def run() -> tuple[Any, ...]:
        with maniac.Maniac(api_key="mk-test", base_url=edge.url) as client:
            answer = client.chat.completions.create(model="m", messages=MESSAGES)
            stream = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
            listed = client.chat.completions.list(metadata={"k": 1})
        return answer, stream, listed

    answer, stream, listed = await asyncio.to_thread(run)

    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert len(stream) >= 3
    assert listed["total"] == 7
    assert core.asked("list")[0].filter.metadata_json == b'{"k":1}'
