"""Embeddings of Gemini's API: batchEmbedContents."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from maniac_core.domain.chat import Answer, JsonObject
from maniac_core.providers.base import Embedder, HttpCall, Prompt, Target
from maniac_core.providers.base_url import gemini_url
from maniac_core.providers.errors import unreadable_failure
from maniac_core.providers.gemini.errors import failure_in
from maniac_core.providers.openai.embeddings import TOKENS
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode, malformed_failure
from maniac_core.providers.translation.parameters import invalid, plain

_encode = msgspec.json.Encoder().encode


class _Values(msgspec.Struct):
    values: list[float]


class _Wire(msgspec.Struct):
    embeddings: list[_Values]


_wire = msgspec.json.Decoder(_Wire)


class GeminiEmbedder(Embedder):
    """See `Embedder`. Tokens are not counted by the provider."""

    most_texts = 100

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request; see Embedder."""
        if plain(prompt.parameters.get(TOKENS)):
            raise invalid("input", "must be text: this provider takes no token ids")
        more: JsonObject = {}
        if (dimensions := plain(prompt.parameters.get("dimensions"))) is not None:
            more["outputDimensionality"] = dimensions
        requests = [
            {
                "model": f"models/{target.model}",
                "content": {"parts": [{"text": message["content"]}]},
                **more,
            }
            for message in prompt.messages
        ]
        headers = [("content-type", "application/json"), ("accept", "application/json")]
        if target.api_key is not None:
            headers.append(("x-goog-api-key", target.api_key))
        path = f"/models/{quote(target.model, safe='')}:batchEmbedContents"
        return HttpCall(
            url=gemini_url(target.config.base_url, path),
            headers=tuple(headers),
            body=_encode({"requests": requests}),
            dropped=tuple(
                k for k in prompt.parameters if k not in ("dimensions", "encoding_format")
            ),
        )

    def decode(self, body: bytes) -> Answer:
        """Decode an answer; see Embedder."""
        try:
            wire = decode(_wire, body)
        except msgspec.ValidationError as err:
            raise failure_in(body) or malformed_failure(err) from None
        except NOT_JSON:
            raise unreadable_failure(body) from None
        return Answer(choices=[], vectors=[item.values for item in wire.embeddings])
