"""Embeddings in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from maniac_core.domain.chat import Answer, JsonObject
from maniac_core.providers.base import Embedder, HttpCall, Prompt, Target
from maniac_core.providers.errors import error_of_json, unreadable_failure
from maniac_core.providers.openai.usage import usage_of
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode, malformed_failure
from maniac_core.providers.translation.parameters import plain

Address: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
TOKENS = "input_tokens"
"""Parameter: whether the texts are lists of token ids, as JSON."""
_GATEWAY_KEYS = frozenset({TOKENS, "encoding_format"})
_encode = msgspec.json.Encoder().encode


class _Item(msgspec.Struct):
    embedding: list[float]
    index: int | None = None


class _Wire(msgspec.Struct):
    data: list[_Item]
    model: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


_wire = msgspec.json.Decoder(_Wire)


class OpenAIEmbedder(Embedder):
    """See `Embedder`. Servers get numbers asked for, because not all of them know base64."""

    # Less than OpenAI takes, so that an answer stays small.
    most_texts = 256

    def __init__(self, address: Callable[[Target], Address]) -> None:
        """`address`: the URL for a target, and the headers."""
        self._address = address

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request; see Embedder."""
        texts: list[Any] = [message["content"] for message in prompt.messages]
        if plain(prompt.parameters.get(TOKENS)):
            texts = [msgspec.Raw(text.encode()) for text in texts]
        body: JsonObject = {"model": target.model, "input": texts}
        body |= {k: value for k, value in prompt.parameters.items() if k not in _GATEWAY_KEYS}
        url, headers = self._address(target)
        return HttpCall(url=url, headers=headers, body=_encode(body))

    def decode(self, body: bytes) -> Answer:
        """Decode an answer; see Embedder."""
        try:
            wire = decode(_wire, body)
        except msgspec.ValidationError as err:
            raise error_of_json(body) or malformed_failure(err) from None
        except NOT_JSON:
            raise unreadable_failure(body) from None
        items = sorted(
            enumerate(wire.data),
            key=lambda item: item[0] if item[1].index is None else item[1].index,
        )
        return Answer(
            choices=[],
            usage=usage_of(wire.usage),
            vectors=[item.embedding for _, item in items],
        )
