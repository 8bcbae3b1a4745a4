"""The dialect of OpenAI's chat completions, and of the many servers that speak it.

It takes for granted that the services have cleaned the prompt: no keys of the gateway, `n` or log probabilities
among the parameters, no `strict` in a JSON schema format, no audio parts in messages. Messages and parameters are
forwarded as they are, unknown keys too, with these exceptions:

- `reasoning` and `reasoning_details` of messages go to OpenRouter only. DeepSeek and Moonshot refuse a tool history
  without its thinking: there `reasoning` of an assistant message with tool calls travels as `reasoning_content`.
- The parameter `reasoning` becomes `reasoning_effort`; what else it holds is reported as dropped. OpenRouter takes
  the object.
- Of two token limits `max_completion_tokens` wins. OpenAI and Azure refuse `max_tokens` for every model since o1;
  Mistral refuses `max_completion_tokens`.
- Streams ask for usage by `stream_options.include_usage`, OpenRouter also by its own `usage.include`. Mistral refuses
  `stream_options` and sends usage by itself. A server that refuses it too cannot be used for streams.

The server is recognized by the host of `base_url`, or by the provider's name: `openai`, `openrouter`,
`deepseek`, `moonshot`, `mistral`.

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

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Answer, JsonObject
from maniac_core.providers.base import HttpCall, Prompt, Target, UpstreamFailure
from maniac_core.providers.base_url import openai_url
from maniac_core.providers.errors import response_failure
from maniac_core.providers.listing import ModelPage, ModelsRequest
from maniac_core.providers.openai.answer import decode_answer
from maniac_core.providers.openai.listing import read_openai_models
from maniac_core.providers.openai.stream import OpenAIStreamDecoder
from maniac_core.providers.translation.parameters import plain, shown_name

# The families that still take `max_tokens` at OpenAI; a model of an unknown name is newer.
_TAKES_MAX_TOKENS = re.compile(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-4o|gpt-audio|davinci|babbage)")

# Those that refuse it behind whatever address; others behind an address that is not OpenAI's may be anything.
_REFUSES_MAX_TOKENS = re.compile(r"(?:ft:)?(?:o\d|gpt-5)(?![^-.:])")

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_encode = msgspec.json.Encoder().encode


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """The peculiarities of the server at a base URL."""

    url: str
    """Where chat completions are posted."""
    key_header: str = "authorization"
    takes_reasoning: bool = False
    """OpenRouter: reasoning as an object, in messages too, and usage on request."""
    wants_reasoning_content: bool = False
    limits_completion: bool = False
    """OpenAI's own models: max_completion_tokens for the newer ones."""
    is_called_openai: bool = False
    """A provider of this name behind another address, such as a proxy."""
    is_mistral: bool = False


class OpenAIDialect:
    """See the module; implements `Dialect`."""

    def encode(self, target: Target, prompt: Prompt) -> HttpCall:
        """Encode a request.

        Raises:
            GatewayError: INVALID_VALUE for an object among the few that are read here which cannot be.
        """
        habits = habits_of(target.config.base_url, target.provider)
        parameters, dropped = _parameters(habits, target.model, prompt)
        body: JsonObject = {
            "model": target.model,
            "messages": _messages(habits, prompt.messages),
            **parameters,
        }
        headers = _headers(habits.key_header, target.api_key, prompt.stream)
        traceparent = prompt.headers.get("traceparent")
        if traceparent and _TRACEPARENT.fullmatch(traceparent):
            headers = (*headers, ("traceparent", traceparent))
        return HttpCall(url=habits.url, headers=headers, body=_encode(body), dropped=dropped)

    def decode(self, body: bytes) -> Answer:
        """Decode a whole answer.

        Raises:
            UpstreamFailure: the body is not an answer, holds an error, or says that it was broken off.
        """
        return decode_answer(body)

    def stream_decoder(self, prompt: Prompt) -> OpenAIStreamDecoder:
        """Return a decoder for one stream."""
        del prompt
        return OpenAIStreamDecoder()

    def models_request(
        self, provider: str, config: ProviderConfig, key: str | None, after: str | None
    ) -> ModelsRequest:
        """Return how the list of models is asked for; it has one page."""
        del after
        habits = habits_of(config.base_url, provider)
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
def habits_of(base_url: str, name: str) -> Habits:
    """Return the peculiarities of the server at a base URL.

    A provider with the name of a known one has its habits behind any address: a proxy does not change them.
    """
    parts = urlsplit(base_url)
    url = openai_url(base_url, "/chat/completions")
    host = "." + (parts.hostname or "")
    if host.endswith(".openai.com"):
        return Habits(url=url, limits_completion=True)
    if host.endswith((".openai.azure.com", ".cognitiveservices.azure.com", ".ai.azure.com")):
        return Habits(url=url, key_header="api-key", limits_completion=True)
    if host.endswith(".openrouter.ai") or name == "openrouter":
        return Habits(url=url, takes_reasoning=True)
    if host.endswith((".deepseek.com", ".moonshot.ai", ".moonshot.cn")) or name in (
        "deepseek",
        "moonshot",
    ):
        return Habits(url=url, wants_reasoning_content=True)
    is_mistral = host.endswith(".mistral.ai") or name == "mistral"
    return Habits(url=url, is_mistral=is_mistral, is_called_openai=name == "openai")


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


def _parameters(habits: Habits, model: str, prompt: Prompt) -> tuple[JsonObject, tuple[str, ...]]:
    parameters = dict(prompt.parameters)
    dropped: tuple[str, ...] = ()
    if "reasoning" in parameters and not habits.takes_reasoning:
        dropped = _flatten_reasoning(parameters)
    _set_limit(habits, model, parameters)
    options = parameters.pop("stream_options", None)
    if prompt.stream:
        parameters["stream"] = True
        if not habits.is_mistral:
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


def _set_limit(habits: Habits, model: str, parameters: JsonObject) -> None:
    """Leave at most one token limit, under the name that the server takes for the model."""
    total, completion = (
        parameters.pop("max_tokens", None),
        parameters.pop("max_completion_tokens", None),
    )
    limit = total if completion is None else completion
    if limit is None:
        return
    is_completion = completion is not None
    if (habits.limits_completion and not _TAKES_MAX_TOKENS.match(model)) or (
        habits.is_called_openai and _REFUSES_MAX_TOKENS.match(model)
    ):
        is_completion = True
    elif habits.is_mistral:
        is_completion = False
    parameters["max_completion_tokens" if is_completion else "max_tokens"] = limit


def _messages(habits: Habits, messages: list[JsonObject]) -> list[JsonObject]:
    if habits.takes_reasoning:
        return messages
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
