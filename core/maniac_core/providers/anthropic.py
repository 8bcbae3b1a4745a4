"""Anthropic's dialect: the Messages API."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from maniac_core.domain.chat import Answer
from maniac_core.providers.anthropic_answer import decode_answer
from maniac_core.providers.anthropic_request import encode_body
from maniac_core.providers.anthropic_stream import AnthropicStreamDecoder
from maniac_core.providers.base import HttpCall, Prompt, StreamDecoder, Target, UpstreamFailure
from maniac_core.providers.errors import response_failure

_VERSION = "2023-06-01"
_FORWARDED = ("anthropic-beta", "traceparent")


class AnthropicDialect:
    """See `Dialect`."""

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        body, dropped = encode_body(target, prompt)
        base = target.config.base_url.rstrip("/")
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if prompt.stream else "application/json"),
            ("anthropic-version", _VERSION),
        ]
        if target.api_key is not None:
            headers.append(("x-api-key", target.api_key))
        headers += [(name, prompt.headers[name]) for name in _FORWARDED if name in prompt.headers]
        return HttpCall(
            url=f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages",
            headers=tuple(headers),
            body=msgspec.json.encode(body),
            dropped=dropped,
        )

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is no answer, or an error inside a 200.
        """
        return decode_answer(body)

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:  # noqa: ARG002 - the seam gives it
        """Return a decoder for one stream."""
        return AnthropicStreamDecoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer."""
        return response_failure(status, headers, body)
