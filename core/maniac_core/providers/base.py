"""The seam of a provider dialect: pure functions between OpenAI's form and a provider's wire form, no I/O.

A dialect is one module with one class that implements `Dialect`, and a row in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Answer, ChoiceDelta, JsonObject, Usage, Wire
from maniac_core.domain.errors import Reason
from maniac_core.providers.listing import ModelPage, ModelsRequest
from maniac_core.providers.transport.sse import Framing, SSEDecoder, SSEEvent


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes: one model of one configured provider."""

    provider: str
    """Name of the provider's table."""
    config: ProviderConfig
    model: str
    """The provider's own name of the model."""
    api_key: str | None
    max_output_tokens: int | None = None
    """The model's limit, from the catalogue. None: unknown."""


class NativePrompt(msgspec.Struct, frozen=True, kw_only=True):
    """The request in the dialect's own API, as its client sent it."""

    body: msgspec.Raw
    """A JSON object."""
    added_messages: tuple[int, ...] = ()
    """Positions in `Prompt.messages` of those that the container added."""
    added_parameters: tuple[str, ...] = ()
    """Names in `Prompt.parameters` of those that the container added."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The input of a dialect: the request after routing and merging.

    `parameters` never holds keys of the gateway itself (tags, metadata, trace, store, models, stream, n, logprobs).
    """

    messages: list[JsonObject]
    parameters: JsonObject
    stream: bool
    headers: Mapping[str, str] = {}
    """Headers of the caller that a dialect may forward, lower-case: anthropic-beta, traceparent."""
    wire: Wire = "chat"
    """The API of the request, if the provider speaks it."""
    native: NativePrompt | None = None
    """To be sent in place of messages and parameters, but for what the gateway must change."""
    is_embedding: bool = False
    """Whether vectors of the messages are wanted, one each, and no answer."""
    is_count: bool = False
    """Whether only the number of its tokens is wanted."""
    untranslated: tuple[str, ...] = ()
    """Fields of the client's request that are not in messages and parameters, because only its own API has them."""


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded request."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    dropped: tuple[str, ...] = ()
    """Parameters that the dialect cannot express."""
    is_native: bool = False
    """Whether it is the client's own request, so that the client gets the answer as it comes."""


class StreamError(msgspec.Struct, frozen=True, kw_only=True):
    """An error that the provider reported inside a stream."""

    failure: UpstreamFailure


class StreamModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model as the provider names it in its answer."""

    name: str


class StreamEnd(msgspec.Struct, frozen=True):
    """The provider said that the answer is complete; nothing that matters follows."""


class NativeEvent(msgspec.Struct, frozen=True):
    """An event as it came, ahead of the items that were made of it."""

    data: bytes
    """With its empty line."""


StreamItem = ChoiceDelta | Usage | StreamModel | StreamError | StreamEnd | NativeEvent


class StreamDecoder(Protocol):
    """Turns the events of one stream into items. State lives as long as one answer.

    A `Usage` item replaces earlier ones. Deltas carry a finish_reason at most once per choice.
    """

    def feed(self, event: SSEEvent) -> list[StreamItem]:
        """Decode one event. A malformed event is counted in `malformed` and yields nothing."""

    def finish(self) -> list[StreamItem]:
        """Tell the decoder that the bytes ended cleanly; the last items, StreamEnd among them if the answer is whole."""

    malformed: int
    """The number of malformed events."""

    @property
    def has_finished(self) -> bool:
        """Whether every choice has its finish reason, so that at most counts and the end are owed.

        Content that follows one disproves it for the whole answer.
        """

    @property
    def has_usage(self) -> bool:
        """Whether the provider has counted the answer."""


class Dialect(Protocol):
    """One provider wire format."""

    wire: Wire
    """The API of the gateway that is the same as the provider's."""

    def of(self, model: str) -> Dialect:
        """Return the dialect of a model: itself, unless a provider speaks several."""
        del model
        return self

    def framing(self) -> Framing:
        """Return what splits the bytes of one stream into events: server-sent ones, unless it says otherwise."""
        return SSEDecoder()

    def embedder(self) -> Embedder | None:
        """Return the dialect of the provider's embeddings; None: it has none."""
        return None

    def counter(self) -> Codec | None:
        """Return the dialect of the provider's counting of tokens, whose answers have usage and no choices.

        None: it does not count without answering.
        """
        return None

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request: the client's own, if the prompt has one.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, or is an error inside a 200.
        """

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:
        """Return a decoder for one stream."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer."""

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return how the list of models is asked for; None: there is none.

        `after`: the token of the page, None for the first.
        """

    def read_models(self, body: bytes) -> ModelPage:
        """Read a page of the list of models.

        Raises:
            ValueError: it is none.
        """


class DialectChoice(Protocol):
    """Chooses between a provider's own dialect and another one that it speaks too, request by request."""

    def other(self, model: str, prompt: Prompt) -> Dialect | None:
        """Return the other dialect if a request goes by it."""

    def note_refusal(self, model: str, status: int, body: bytes) -> bool:
        """Take note of an error answer in the own dialect; return whether the other is to be tried at once."""

    def note_failure(self, model: str, failure: UpstreamFailure) -> None:
        """Take note of an error answer in the other dialect."""


class Codec(Protocol):
    """The wire format of something else that a provider does than to answer."""

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE, naming the field, for what this wire cannot carry.
        """

    def decode(self, body: bytes) -> Answer:
        """Decode an answer, which has no choices.

        Raises:
            UpstreamFailure: the body is not an answer, or is an error inside a 200.
        """


class Embedder(Codec, Protocol):
    """The wire format of a provider's embeddings: the content of each message is a text, and answers have vectors."""

    most_texts: int
    """In one request."""


class UpstreamFailure(Exception):
    """A provider failed. Holds the error for the caller, and the steps that may be tried next."""

    def __init__(
        self,
        reason: Reason.ValueType,
        message: str,
        *,
        retry: bool = False,
        fall_back: bool = False,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        param: str | None = None,
    ) -> None:
        """`retry`: the same upstream may succeed. `fall_back`: the next candidate may be tried."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry = retry
        self.fall_back = fall_back
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.param = param
        self.is_unreachable = False
        """Whether no connection to the provider could be made, so that it says nothing about the model."""
        self.other_api = False
        """Whether another API of the same provider is to be tried at once."""
        self.other_key = False
        """Whether another key of the same provider may do better at once."""
        self.may_be_billed = False
        """Whether the provider had begun to work on the request, so that it may charge for it."""
        self.usage: Usage | None = None
        """The provider's counts for an answer that cannot be used."""
        self.untrimmed: str | None = None
        """The message before it was shortened, which keys are taken out of."""
