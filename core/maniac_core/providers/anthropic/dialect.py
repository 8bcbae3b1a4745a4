"""Anthropic's dialect: the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Answer, Wire
from maniac_core.providers.anthropic.answer import decode_answer
from maniac_core.providers.anthropic.counting import AnthropicCounter
from maniac_core.providers.anthropic.listing import read_anthropic_models
from maniac_core.providers.anthropic.native import encode_native
from maniac_core.providers.anthropic.request import encode_body
from maniac_core.providers.anthropic.stream import AnthropicStreamDecoder
from maniac_core.providers.base import (
    Codec,
    Dialect,
    HttpCall,
    Prompt,
    StreamDecoder,
    Target,
    UpstreamFailure,
)
from maniac_core.providers.base_url import anthropic_url
from maniac_core.providers.errors import response_failure
from maniac_core.providers.listing import ModelPage, ModelsRequest

_VERSION = "2023-06-01"
_encode = msgspec.json.Encoder().encode
_COUNTER = AnthropicCounter()
_FORWARDED = ("anthropic-beta", "traceparent")


class AnthropicDialect(Dialect):
    """See `Dialect`."""

    wire: Wire = "messages"

    def counter(self) -> Codec:
        """Return the dialect of counting."""
        return _COUNTER

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        path = "/messages"
        dropped: tuple[str, ...] = ()
        if prompt.native is not None:
            body = encode_native(target, prompt, prompt.native)
            if "anthropic-beta" in prompt.headers:
                path = "/messages?beta=true"
        else:
            translated, dropped = encode_body(target, prompt)
            body = _encode(translated)
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if prompt.stream else "application/json"),
            ("anthropic-version", _VERSION),
        ]
        if target.api_key is not None:
            headers.append(("x-api-key", target.api_key))
        headers += [(name, prompt.headers[name]) for name in _FORWARDED if name in prompt.headers]
        return HttpCall(
            url=anthropic_url(target.config.base_url, path),
            headers=tuple(headers),
            body=body,
            dropped=dropped,
            is_native=prompt.native is not None,
        )

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, or is an error inside a 200.
        """
        return decode_answer(body)

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:  # noqa: ARG002 - the seam gives it
        """Return a decoder for one stream."""
        return AnthropicStreamDecoder()

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return how a page of the list of models is asked for."""
        del provider
        url = anthropic_url(config.base_url, "/models?limit=1000")
        headers = [("accept", "application/json"), ("anthropic-version", _VERSION)]
        if key is not None:
            headers.append(("x-api-key", key))
        return ModelsRequest(
            url=f"{url}&after_id={quote(after, safe='')}" if after else url, headers=tuple(headers)
        )

    def read_models(self, body: bytes) -> ModelPage:
        """Read a page of the list of models.

        Raises:
            ValueError: it is none.
        """
        return read_anthropic_models(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer."""
        return response_failure(status, headers, body)
