"""The dialect of Amazon Bedrock: Converse and ConverseStream."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Answer, Wire
from maniac_core.providers.anthropic.messages import REASONING_FORMAT as CLAUDE_FORMAT
from maniac_core.providers.base import (
    Dialect,
    HttpCall,
    Prompt,
    StreamDecoder,
    Target,
    UpstreamFailure,
)
from maniac_core.providers.bedrock.answer import decode_answer
from maniac_core.providers.bedrock.errors import bedrock_failure
from maniac_core.providers.bedrock.messages import REASONING_FORMAT
from maniac_core.providers.bedrock.request import encode_body, is_claude
from maniac_core.providers.bedrock.stream import ConverseStreamDecoder
from maniac_core.providers.listing import ModelPage, ModelsRequest
from maniac_core.providers.transport.eventstream import EventStreamDecoder
from maniac_core.providers.transport.sse import Framing


class BedrockDialect(Dialect):
    """See `Dialect`. Models differ in whose reasoning details they make and read."""

    # Requests of other APIs are translated here: none is forwarded as it came.
    wire: Wire = "chat"

    def __init__(self, reasoning_format: str = REASONING_FORMAT) -> None:
        self._reasoning_format = reasoning_format

    def of(self, model: str) -> Dialect:
        """Return the dialect of a model."""
        return _CLAUDE if is_claude(model) else self

    def framing(self) -> Framing:
        """Return what splits the bytes of one stream into events."""
        return EventStreamDecoder()

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        body, dropped = encode_body(target, prompt)
        kind = "application/vnd.amazon.eventstream" if prompt.stream else "application/json"
        headers = [("content-type", "application/json"), ("accept", kind)]
        if target.api_key is not None:
            headers.append(("authorization", f"Bearer {target.api_key}"))
        if "traceparent" in prompt.headers:
            headers.append(("traceparent", prompt.headers["traceparent"]))
        # The name comes from a caller: nothing in it may lead to another operation.
        name = quote(target.model, safe="")
        method = "converse-stream" if prompt.stream else "converse"
        return HttpCall(
            url=f"{target.config.base_url.rstrip('/')}/model/{name}/{method}",
            headers=tuple(headers),
            body=msgspec.json.encode(body),
            dropped=dropped,
        )

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, or the model produced none.
        """
        return decode_answer(body, self._reasoning_format)

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:
        """Return a decoder for one stream."""
        del prompt
        return ConverseStreamDecoder(self._reasoning_format)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer."""
        return bedrock_failure(status, headers, body)

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return None: the models are those of the catalogue, and any other by its name."""
        del provider, config, key, after
        return None

    def read_models(self, body: bytes) -> ModelPage:
        """Nothing asks for a list.

        Raises:
            ValueError: always.
        """
        del body
        raise ValueError("no list of models")


_CLAUDE = BedrockDialect(CLAUDE_FORMAT)
