"""What the `anthropic` package does around messages: errors, models, typed answers, tools that it runs itself."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pydantic
import pytest
from gateway import KEY, Gateway
from providers import Providers, body, status
from upstream import Exchange, completion

ASKED: Any = {
    "model": "openai/m1",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hi"}],
}
MODEL = "openai/gpt-4o"


class City(pydantic.BaseModel):
    """What the model is to answer with."""

    name: str


@pytest.mark.parametrize(
    ("http_status", "expected"),
    [
        (400, (anthropic.BadRequestError, "invalid_request_error")),
        (413, (anthropic.RequestTooLargeError, "request_too_large")),
        (429, (anthropic.RateLimitError, "rate_limit_error")),
        (503, (anthropic.ServiceUnavailableError, "overloaded_error")),
        (529, (anthropic.ServiceUnavailableError, "overloaded_error")),
    ],
)
@pytest.mark.parametrize("model", ["openai/m1", "anthropic/m1"])
def test_each_failure_has_its_class(
    client: anthropic.Anthropic,
    providers: Providers,
    model: str,
    http_status: int,
    expected: tuple[type[anthropic.APIStatusError], str],
) -> None:
    """Whatever API the provider speaks; a stream that fails before its first event is told in the same way."""
    error, kind = expected
    providers.handlers[model.partition("/")[0]] = status(http_status)
    for is_stream in (False, True):
        with pytest.raises(error) as raised:
            client.messages.create(**{**ASKED, "model": model}, stream=is_stream)
        told: Any = raised.value.body
        assert told["error"]["type"] == kind
        assert raised.value.request_id == told["request_id"]


@pytest.mark.usefixtures("providers")
def test_refusals_of_the_gateway_have_their_classes(
    client: anthropic.Anthropic, gateway: Gateway
) -> None:
    """A wrong key, a model that does not exist, a request that is too large."""
    stranger = anthropic.Anthropic(base_url=gateway.url, api_key="mk-wrong", max_retries=0)
    for ask in (
        lambda: stranger.messages.create(**ASKED),
        lambda: stranger.messages.count_tokens(model="openai/m1", messages=ASKED["messages"]),
        stranger.models.list,
        lambda: stranger.models.retrieve(MODEL),
    ):
        with pytest.raises(anthropic.AuthenticationError) as raised:
            ask()
        assert raised.value.type == "authentication_error"
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.models.retrieve("nobody/none")
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASKED, "model": "nobody/none"})
    with pytest.raises(anthropic.RequestTooLargeError):
        client.messages.create(**{**ASKED, "system": "x" * 34_000_000})


@pytest.mark.usefixtures("providers")
def test_answers_have_their_request_id(client: anthropic.Anthropic) -> None:
    """In the header where the package looks for it."""
    message = client.messages.create(**ASKED)
    assert message._request_id is not None
    assert message._request_id.startswith("req_")
    with client.messages.stream(**ASKED) as stream:
        assert stream.request_id is not None
        stream.until_done()


def test_an_answer_is_parsed(client: anthropic.Anthropic, providers: Providers) -> None:
    """The form that a class asks for reaches the provider, and the text comes back as the class."""
    providers.handlers["openai"] = body(json.dumps(completion('{"name": "Rome"}')).encode())
    message = client.messages.parse(**ASKED, output_format=City)

    assert message.parsed_output == City(name="Rome")
    (exchange,) = providers.requests("openai")
    asked = exchange.json["response_format"]["json_schema"]["schema"]
    assert asked["properties"]["name"]["type"] == "string"


def test_the_package_runs_tools(client: anthropic.Anthropic, providers: Providers) -> None:
    """Its own loop: a call, the function, the result, the answer."""

    async def handle(exchange: Exchange) -> None:
        if exchange.json["messages"][-1]["role"] == "tool":
            await exchange.answer(exchange.json["messages"][-1]["content"])
            return
        function = {"name": "weather", "arguments": '{"city": "Rome"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        await exchange.answer("", tool_calls=[call], finish_reason="tool_calls")

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        return f"Sunny in {city}."

    providers.handlers["openai"] = handle
    message = client.beta.messages.tool_runner(**ASKED, tools=[weather]).until_done()
    assert [block.text for block in message.content if block.type == "text"] == ["Sunny in Rome."]


@pytest.mark.usefixtures("providers")
def test_models_are_paged_both_ways(client: anthropic.Anthropic, gateway: Gateway) -> None:
    """By id, with a base URL that ends in /v1, too."""
    models = [model.id for model in client.models.list(limit=100)]
    position = models.index(MODEL)
    after = client.models.list(after_id=MODEL, limit=2)
    before = client.models.list(before_id=MODEL, limit=2)

    assert models == sorted(models)
    assert [model.id for model in after.data] == models[position + 1 : position + 3]
    assert [model.id for model in before.data] == models[position - 2 : position]
    assert before.has_more
    assert not client.models.list(before_id=models[0]).has_more
    other = anthropic.Anthropic(base_url=gateway.base_url, api_key=KEY, max_retries=0)
    model = other.models.retrieve(MODEL)
    assert (model.id, model.type) == (MODEL, "model")
    assert (model.max_input_tokens, model.max_tokens) == (128_000, 16_384)
    assert len(list(other.models.list(limit=1000))) == len(models)
