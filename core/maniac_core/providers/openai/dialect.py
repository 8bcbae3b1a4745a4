"""The dialect of OpenAI's chat completions, and of the many servers that speak it.

It takes for granted that the services have cleaned the prompt: no keys of the gateway, `n` or log probabilities
among the parameters, no `strict` in a JSON schema format, no audio parts in messages. Messages and parameters are
forwarded as they are, unknown keys too, with these exceptions:

- `reasoning` and `reasoning_details` of messages go to OpenRouter only. DeepSeek and Moonshot refuse a tool history
  without its thinking: there `reasoning` of an assistant message with tool calls travels as `reasoning_content`.
- The parameter `reasoning` becomes `reasoning_effort`; what else it holds is reported as dropped. OpenRouter takes
  the object.
- Of two token limits `max_completion_tokens` wins. OpenAI and Azure refuse `max_tokens` for every model since o1;
  others refuse or ignore `max_completion_tokens`.
- Streams ask for usage by `stream_options.include_usage`, OpenRouter also by its own `usage.include`. Mistral and
  Cohere refuse `stream_options`; Mistral sends usage by itself. An unknown server that refuses it cannot be used for
  streams.
- A message of the role `developer` gets the role `system` where the server does not know it.

Who has which of these habits stands in `config/known.py`. The server is recognized by the host of `base_url`, or by the
provider's name.

Azure: `base_url` is `https://RESOURCE.openai.azure.com/openai/v1`, or a deployment's URL with its
`?api-version=…`; the key goes into the `api-key` header.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from maniac_core.config.known import KNOWN_PROVIDERS, Habits
from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import RESULT_MEDIA, Answer, JsonObject, Wire
from maniac_core.providers.base import (
    Dialect,
    Embedder,
    HttpCall,
    Prompt,
    StreamDecoder,
    Target,
    UpstreamFailure,
)
from maniac_core.providers.base_url import openai_url
from maniac_core.providers.errors import response_failure
from maniac_core.providers.listing import ModelPage, ModelsRequest
from maniac_core.providers.openai.answer import decode_answer
from maniac_core.providers.openai.embeddings import Address, OpenAIEmbedder
from maniac_core.providers.openai.listing import read_openai_models
from maniac_core.providers.openai.results import plain_results
from maniac_core.providers.openai.stream import OpenAIStreamDecoder
from maniac_core.providers.translation.parameters import plain, shown_name

# The families that still take `max_tokens` at OpenAI; a model of an unknown name is newer.
_TAKES_MAX_TOKENS = re.compile(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-4o|gpt-audio|davinci|babbage)")

# Those that refuse it behind whatever address; others behind an address that is not OpenAI's may be anything.
_REFUSES_MAX_TOKENS = re.compile(r"(?:ft:)?(?:o\d|gpt-5)(?![^-.:])")

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_encode = msgspec.json.Encoder().encode


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server at a base URL."""

    url: str
    """Where chat completions are posted."""
    habits: Habits
    name: str = ""
    """The known provider whose habits it has; "": none."""
    is_at_home: bool
    """Whether the address is that of this provider, and not one of a proxy."""


class OpenAIDialect(Dialect):
    """See the module; implements `Dialect`."""

    wire: Wire = "chat"

    def embedder(self) -> Embedder:
        """Return the dialect of embeddings."""
        return _EMBEDDER

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE for an object among the few that are read here which cannot be.
        """
        server = server_at(target.config.base_url, target.provider)
        habits = server.habits
        parameters, dropped = _parameters(server, target.model, prompt)
        body: JsonObject = {
            "model": target.model,
            "messages": _messages(habits, prompt.messages),
            **parameters,
        }
        headers = request_headers(habits, target, prompt)
        return HttpCall(url=server.url, headers=headers, body=_encode(body), dropped=dropped)

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, holds an error, or says that it was broken off.
        """
        return decode_answer(body)

    def stream_decoder(self, prompt: Prompt) -> StreamDecoder:
        """Return a decoder for one stream."""
        del prompt
        return OpenAIStreamDecoder()

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest | None:
        """Return how the list of models is asked for, which has one page; None: the server has none."""
        del after
        habits = server_at(config.base_url, provider).habits
        if not habits.lists_models:
            return None
        headers = (("accept", "application/json"), *_key_header(habits.key_header, key))
        return ModelsRequest(url=openai_url(config.base_url, "/models"), headers=headers)

    def read_models(self, body: bytes) -> ModelPage:
        """Read the list of models.

        Raises:
            ValueError: it is none.
        """
        return read_openai_models(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
        """Map an error answer."""
        return response_failure(status, headers, body)


@functools.lru_cache(maxsize=256)
def server_at(base_url: str, name: str) -> Server:
    """Return the server at a base URL.

    A provider with the name of a known one has its habits behind any address: a proxy does not change them.
    """
    url = openai_url(base_url, "/chat/completions")
    host = "." + (urlsplit(base_url).hostname or "")
    for row in KNOWN_PROVIDERS.values():
        if any(host.endswith("." + domain) for domain in row.hosts):
            return Server(url=url, habits=row.habits, name=row.name, is_at_home=True)
    if (named := KNOWN_PROVIDERS.get(name)) is None:
        return Server(url=url, habits=Habits(), is_at_home=False)
    return Server(url=url, habits=named.habits, name=name, is_at_home=False)


def request_headers(habits: Habits, target: Target, prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """Return the headers of a request."""
    headers = _headers(habits.key_header, target.api_key, prompt.stream)
    traceparent = prompt.headers.get("traceparent")
    if traceparent and _TRACEPARENT.fullmatch(traceparent):
        return (*headers, ("traceparent", traceparent))
    return headers


def _embeddings_address(target: Target) -> Address:
    habits = server_at(target.config.base_url, target.provider).habits
    url = openai_url(target.config.base_url, "/embeddings")
    return url, _headers(habits.key_header, target.api_key, stream=False)


_EMBEDDER = OpenAIEmbedder(_embeddings_address)


@functools.lru_cache(maxsize=256)
def _headers(key_header: str, api_key: str | None, stream: bool) -> tuple[tuple[str, str], ...]:
    """Return the same tuple for the same upstream and key: the transport caches its encoding."""
    return (
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if stream else "application/json"),
        *_key_header(key_header, api_key),
    )


def _key_header(name: str, api_key: str | None) -> tuple[tuple[str, str], ...]:
    if not api_key:
        return ()
    return ((name, f"Bearer {api_key}" if name == "authorization" else api_key),)


def _parameters(server: Server, model: str, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    habits = server.habits
    parameters = dict(prompt.parameters)
    dropped: tuple[str, ...] = ()
    if "reasoning" in parameters and not habits.takes_reasoning:
        dropped = _flatten_reasoning(parameters)
    _set_limit(server, model, parameters)
    options = parameters.pop("stream_options", None)
    if prompt.stream:
        parameters["stream"] = True
        if habits.takes_stream_options:
            parameters["stream_options"] = {
                **_object(options, "stream_options"),
                "include_usage": True,
            }
    if habits.takes_reasoning:
        parameters["usage"] = {**_object(parameters.get("usage"), "usage"), "include": True}
    return parameters, dropped


def _flatten_reasoning(parameters: JsonObject) -> tuple[str, ...]:
    """Replace `reasoning` by `reasoning_effort`; return what of it is lost."""
    reasoning = _object(parameters.pop("reasoning"), "reasoning")
    effort = reasoning.pop("effort", None)
    if effort is not None:
        # A caller who also sends the wire's own key means that one.
        parameters.setdefault("reasoning_effort", effort)
    lost = [f"reasoning.{key}" for key, value in reasoning.items() if value is not None]
    return tuple([shown_name(name) for name in lost])


def _set_limit(server: Server, model: str, parameters: JsonObject) -> None:
    """Leave at most one token limit, under the name that the server takes for the model."""
    total, completion = (
        parameters.pop("max_tokens", None),
        parameters.pop("max_completion_tokens", None),
    )
    limit = total if completion is None else completion
    if limit is None:
        return
    is_completion = completion is not None
    match server.habits.limit:
        case "openai":
            is_completion |= (
                not _TAKES_MAX_TOKENS.match(model)
                if server.is_at_home
                else bool(_REFUSES_MAX_TOKENS.match(model))
            )
        case "max_tokens":
            is_completion = False
    parameters["max_completion_tokens" if is_completion else "max_tokens"] = limit


def _messages(habits: Habits, messages: list[JsonObject]) -> list[JsonObject]:
    if any(message.get("is_error") is True or RESULT_MEDIA in message for message in messages):
        messages = plain_results(messages)
    if habits.takes_reasoning:
        return messages
    if not habits.takes_developer:
        messages = [
            {**message, "role": "system"} if message.get("role") == "developer" else message
            for message in messages
        ]
    return [
        _without_reasoning(message, habits)
        if "reasoning" in message
        or "reasoning_details" in message
        or (habits.wants_reasoning_content and "tool_calls" in message)
        else message
        for message in messages
    ]


def _without_reasoning(message: JsonObject, habits: Habits) -> JsonObject:
    kept = {
        key: value
        for key, value in message.items()
        if key not in ("reasoning", "reasoning_details")
    }
    if habits.wants_reasoning_content and message.get("tool_calls"):
        # Thinking that was empty has to be there as well.
        kept.setdefault("reasoning_content", message.get("reasoning") or "")
    return kept


def _object(value: Any, param: str) -> JsonObject:
    """Return a JSON object as a new dictionary; nothing for what is none."""
    value = plain(value, param)
    return dict(value) if isinstance(value, dict) else {}
