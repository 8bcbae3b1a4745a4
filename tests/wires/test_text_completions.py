"""The `openai` package's legacy completions, answered through chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from gateway import KEY, Gateway
from providers import Providers


@pytest.fixture
def openai_client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_a_prompt_is_a_message(openai_client: openai.OpenAI, providers: Providers) -> None:
    """The text comes back as text, with counts."""
    made = openai_client.completions.create(
        model="openai/m1", prompt="Say hello", max_tokens=5, stop=["x"], temperature=0, suffix="!"
    )
    (sent,) = [exchange.json for exchange in providers.requests("openai")]

    assert (made.object, made.model, made.choices[0].text) == (
        "text_completion",
        "openai/m1",
        "Hello!",
    )
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert made.usage.total_tokens == 12
    assert sent["messages"] == [{"role": "user", "content": "Say hello"}]
    assert (sent["max_tokens"], sent["stop"], sent["temperature"]) == (5, ["x"], 0)
    assert "suffix" not in sent


@pytest.mark.usefixtures("providers")
def test_a_stream_adds_up(openai_client: openai.OpenAI) -> None:
    """Pieces of text, then the reason for the end, then usage if it is wanted."""
    chunks = list(
        openai_client.completions.create(
            model="openai/m1", prompt=["Hi"], stream=True, stream_options={"include_usage": True}
        )
    )

    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "Hello!"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.usefixtures("providers")
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"n": 2}, "n"),
        ({"model": None}, "model"),
    ],
)
def test_bad_input_names_the_field(gateway: Gateway, change: dict[str, Any], param: str) -> None:
    """Errors have the envelope of chat."""
    with gateway.client() as http:
        answer = http.post("/v1/completions", json={"model": "openai/m1", "prompt": "a", **change})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
