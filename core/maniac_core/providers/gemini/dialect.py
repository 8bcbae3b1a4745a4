"""Gemini's dialect: generateContent of the Gemini API, and of Vertex AI under another path."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Answer, Wire
from maniac_core.providers.base import (
    Dialect,
    Embedder,
    HttpCall,
    Prompt,
    StreamDecoder,
    Target,
    UpstreamFailure,
)
from maniac_core.providers.base_url import gemini_url
from maniac_core.providers.errors import (
    error_in,
    response_failure,
    stream_failure,
    unreadable_failure,
)
from maniac_core.providers.gemini.answer import GeminiChunk, usage_of, whole_answer
from maniac_core.providers.gemini.embeddings import GeminiEmbedder
from maniac_core.providers.gemini.errors import failure_in, refine
from maniac_core.providers.gemini.listing import read_gemini_models
from maniac_core.providers.gemini.native import encode_native
from maniac_core.providers.gemini.request import encode_body
from maniac_core.providers.gemini.stream import GeminiStreamDecoder
from maniac_core.providers.listing import ModelPage, ModelsRequest
from maniac_core.providers.translation.foreign_json import (
    NOT_JSON,
    decode,
    is_other_than_object,
    loose_object,
    malformed_failure,
)


class _WireBill(msgspec.Struct):
    """The usage in an answer, whatever else it holds."""

    usageMetadata: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - the wire's name


_ANSWER = msgspec.json.Decoder(GeminiChunk)
_BILL = msgspec.json.Decoder(_WireBill)
_EMBEDDER = GeminiEmbedder()


class GeminiDialect(Dialect):
    """See `Dialect`."""

    wire: Wire = "gemini"

    def embedder(self) -> Embedder:
        """Return the dialect of embeddings."""
        return _EMBEDDER

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """
        dropped: tuple[str, ...] = ()
        if prompt.native is not None:
            body = encode_native(target, prompt, prompt.native)
        else:
            translated, dropped = encode_body(target, prompt)
            body = msgspec.json.encode(translated)
        headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream" if prompt.stream else "application/json"),
        ]
        if target.api_key is not None:
            headers.append(("x-goog-api-key", target.api_key))
        if "traceparent" in prompt.headers:
            headers.append(("traceparent", prompt.headers["traceparent"]))
        return HttpCall(
            url=_url(target.config.base_url, target.model, stream=prompt.stream),
            headers=tuple(headers),
            body=body,
            dropped=dropped,
            is_native=prompt.native is not None,
        )

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, is an error inside a 200, or is malformed by the model.
        """
        try:
            chunk = decode(_ANSWER, body)
        except msgspec.ValidationError as err:
            if is_other_than_object(err):
                raise failure_in(body) or unreadable_failure(body) from None
            raise failure_in(body) or _billed(malformed_failure(err), body) from None
        except NOT_JSON:
            raise unreadable_failure(body) from None
        if chunk.error:
            raise failure_in(body) or stream_failure(chunk.error)
        try:
            answer = whole_answer(chunk)
        except UpstreamFailure as failure:
            raise _billed(failure, body) from None
        if answer is None:
            raise failure_in(body) or unreadable_failure(body)
        return answer

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:  # noqa: ARG002 - the seam gives it
        """Return a decoder for one stream."""
        return GeminiStreamDecoder()

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return how a page of the list of models is asked for."""
        del provider
        url = gemini_url(config.base_url, "/models?pageSize=1000")
        headers = [("accept", "application/json")]
        if key is not None:
            headers.append(("x-goog-api-key", key))
        return ModelsRequest(
            url=f"{url}&pageToken={quote(after, safe='')}" if after else url, headers=tuple(headers)
        )

    def read_models(self, body: bytes) -> ModelPage:
        """Read a page of the list of models.

        Raises:
            ValueError: it is none.
        """
        return read_gemini_models(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer: a google.rpc.Status."""
        failure = response_failure(status, headers, body)
        return refine(failure, error_in(body))


def _billed(failure: UpstreamFailure, body: bytes) -> UpstreamFailure:
    """Add what the provider counted to the failure of its answer: it may be charged all the same."""
    with contextlib.suppress(*NOT_JSON):
        failure.usage = usage_of(loose_object(decode(_BILL, body).usageMetadata))
        failure.may_be_billed |= failure.usage is not None
    return failure


def _url(base_url: str, model: str, *, stream: bool) -> str:
    collection, slash, name = model.partition("/")
    if not slash or collection not in ("models", "tunedModels"):
        collection, name = "models", model
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    # The name comes from a caller: nothing in it may lead out of the collection.
    return gemini_url(base_url, f"/{collection}/{quote(name, safe='')}:{method}")
