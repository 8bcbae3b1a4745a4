"""The `openai` package's embeddings, unmodified, in front of providers of several dialects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import openai
import pytest
from embedding_servers import of_gemini, of_openai
from gateway import KEY, Gateway
from maniac_gateway.v1 import embeddings_pb2, embeddings_pb2_grpc
from providers import Exchange, Providers, status


@pytest.fixture
def openai_client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_the_client_gets_vectors(openai_client: openai.OpenAI, providers: Providers) -> None:
    """The package asks for base64 by itself, and reads numbers from it; order is that of the texts."""
    providers.handlers["openai"] = of_openai
    made = openai_client.embeddings.create(model="openai/e1", input=["a", "bbb"], dimensions=2)
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    assert [item.embedding for item in made.data] == [[1.0, 0.5], [3.0, 0.5]]
    assert [item.index for item in made.data] == [0, 1]
    assert (made.model, made.usage.prompt_tokens, made.usage.total_tokens) == ("openai/e1", 2, 2)
    assert sent == {"model": "e1", "input": ["a", "bbb"], "dimensions": 2}


def test_numbers_and_a_single_text(gateway: Gateway, providers: Providers) -> None:
    """Without base64 the vectors are numbers."""
    providers.handlers["openai"] = of_openai
    with gateway.client() as http:
        made = http.post(
            "/v1/embeddings", json={"model": "openai/e1", "input": "ab", "x": 1}
        ).json()
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    assert made["data"] == [{"object": "embedding", "index": 0, "embedding": [2.0, 0.5]}]
    assert made["provider"] == "openai"
    assert sent["x"] == 1


def test_token_ids_go_as_they_are(gateway: Gateway, providers: Providers) -> None:
    """Of one text and of several."""
    providers.handlers["openai"] = of_openai
    with gateway.client() as http:
        for given in ([1, 2], [[1, 2], [3]]):
            http.post("/v1/embeddings", json={"model": "openai/e1", "input": given})
    sent = [exchange.json["input"] for exchange in providers.requests("openai")]

    assert sent == [[[1, 2]], [[1, 2], [3]]]


def test_more_texts_than_a_provider_takes_are_split(
    openai_client: openai.OpenAI, providers: Providers
) -> None:
    """Gemini takes 100 at once; the vectors come in order, and one record has all of them."""
    providers.handlers["gemini"] = of_gemini
    texts = ["x" * (i % 7 + 1) for i in range(250)]
    made = openai_client.embeddings.create(model="gemini/e1", input=texts)

    assert [item.embedding[0] for item in made.data] == [float(len(text)) for text in texts]
    assert [len(exchange.json["requests"]) for exchange in providers.requests("gemini")] == [
        *(100, 100, 50)
    ]
    assert made.usage.prompt_tokens > 0


def test_a_fallback_takes_over(gateway: Gateway, providers: Providers) -> None:
    """As for every wire."""
    providers.handlers |= {"openai": status(500), "spare": of_openai}
    body = {"model": "openai/e1", "models": ["spare/e2"], "input": "a", "store": True}
    with gateway.client() as http:
        made = http.post("/v1/embeddings", json=body)
        listed = http.get("/v1/chat/completions").json()["data"][0]
        explained = http.get(f"/v1/chat/completions/{listed['id']}/explain").json()

    assert made.json()["model"] == "spare/e2"
    assert listed["id"].startswith("emb_")
    assert [attempt["outcome"] for attempt in explained["attempts"]] == ["failed", "ok"]


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("change", "http_status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": ["a", [1]]}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"dimensions": 1.5}, 400, "dimensions"),
        ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"model": None}, 400, "model"),
        ({"model": "nobody/none"}, 404, "model"),
        ({"model": "anthropic/claude"}, 400, "model"),
    ],
)
def test_bad_input_names_the_field(
    gateway: Gateway, change: dict[str, Any], http_status: int, param: str
) -> None:
    """Errors have the envelope of chat."""
    with gateway.client() as http:
        answer = http.post("/v1/embeddings", json={"model": "openai/e1", "input": "a", **change})

    assert answer.status_code == http_status, answer.text
    assert answer.json()["error"]["param"] == param


def test_an_answer_of_another_length_is_a_failure(gateway: Gateway, providers: Providers) -> None:
    """A vector for each text, or none."""

    async def short(exchange: Exchange) -> None:
        await exchange.respond(200, b'{"data":[]}')

    providers.handlers["openai"] = short
    with gateway.client() as http:
        answer = http.post("/v1/embeddings", json={"model": "openai/e1", "input": "a"})

    assert answer.status_code == 502


async def test_internal_services_get_vectors_over_grpc(
    gateway: Gateway, providers: Providers
) -> None:
    """The typed service lands in the same place."""
    providers.handlers["openai"] = of_openai
    metadata = (("authorization", f"Bearer {KEY}"),)
    async with grpc.aio.insecure_channel(gateway.grpc_target) as channel:
        stub = embeddings_pb2_grpc.EmbeddingServiceStub(channel)
        request = embeddings_pb2.CreateEmbeddingsRequest(model="openai/e1", texts=["a", "bbb"])
        made = await stub.CreateEmbeddings(request, metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateEmbeddings(
                embeddings_pb2.CreateEmbeddingsRequest(model="openai/e1"), metadata=metadata
            )

    assert [list(item.values) for item in made.embeddings] == [[1.0, 0.5], [3.0, 0.5]]
    assert (made.model, made.prompt_tokens) == ("openai/e1", 2)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
