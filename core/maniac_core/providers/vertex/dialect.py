"""The dialects of Vertex AI: bodies and answers as Gemini's and Anthropic's own, under Google Cloud's addresses."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Wire
from maniac_core.providers.anthropic import request as anthropic_request
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import Dialect, HttpCall, Prompt, Target
from maniac_core.providers.gemini import request as gemini_request
from maniac_core.providers.gemini.dialect import GeminiDialect
from maniac_core.providers.listing import ModelsRequest

_ANTHROPIC_VERSION = "vertex-2023-10-16"


class VertexDialect(GeminiDialect):
    """Google's models, and with `of` the dialect of any model."""

    # Requests of other APIs are translated here: none is forwarded as it came.
    wire: Wire = "chat"

    def of(self, model: str) -> Dialect:
        """Return the dialect of a model."""
        return _CLAUDE if "claude" in model.lower() else self

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        body, dropped = gemini_request.encode_body(target, prompt)
        method = "streamGenerateContent?alt=sse" if prompt.stream else "generateContent"
        return HttpCall(
            url=_url(target, "google", method),
            headers=_headers(prompt, "traceparent"),
            body=msgspec.json.encode(body),
            dropped=dropped,
        )

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return None: the models are those of the catalogue, and any other by its name."""
        del provider, config, key, after
        return None


class _ClaudeDialect(AnthropicDialect):
    """Anthropic's models."""

    wire: Wire = "chat"

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        body, dropped = anthropic_request.encode_body(target, prompt)
        # It stands in the address.
        del body["model"]
        return HttpCall(
            url=_url(target, "anthropic", "streamRawPredict" if prompt.stream else "rawPredict"),
            headers=_headers(prompt, "anthropic-beta", "traceparent"),
            body=msgspec.json.encode({"anthropic_version": _ANTHROPIC_VERSION, **body}),
            dropped=dropped,
        )


_CLAUDE = _ClaudeDialect()


def _url(target: Target, publisher: str, method: str) -> str:
    config = target.config
    return (
        f"{config.base_url.rstrip('/')}/v1/projects/{config.project}/locations/{config.location}"
        # The name comes from a caller: nothing in it may lead out of the collection.
        f"/publishers/{publisher}/models/{quote(target.model, safe='@')}:{method}"
    )


def _headers(prompt: Prompt, *forwarded: str) -> tuple[tuple[str, str], ...]:
    return (
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if prompt.stream else "application/json"),
        *((name, prompt.headers[name]) for name in forwarded if name in prompt.headers),
    )
