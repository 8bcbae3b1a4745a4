"""The dialects by the `kind` of a provider's configuration; adding one is a module and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.chat import Wire
from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import Dialect
from maniac_core.providers.bedrock.dialect import BedrockDialect
from maniac_core.providers.bedrock.signer import AwsSigner
from maniac_core.providers.gemini.dialect import GeminiDialect
from maniac_core.providers.openai.dialect import OpenAIDialect
from maniac_core.providers.openai_responses.choice import ResponsesChoice
from maniac_core.providers.openai_responses.dialect import RESPONSES
from maniac_core.providers.signing import Signer
from maniac_core.providers.vertex.dialect import VertexDialect
from maniac_core.providers.vertex.signer import GoogleSigner

DIALECTS: Mapping[str, Dialect] = {
    "openai": OpenAIDialect(),
    "openai-responses": RESPONSES,
    "anthropic": AnthropicDialect(),
    "gemini": GeminiDialect(),
    "vertex": VertexDialect(),
    "bedrock": BedrockDialect(),
    "scripted": OpenAIDialect(),
}

_SIGNERS: Mapping[str, Callable[[str, ProviderConfig], Signer]] = {
    "bedrock": AwsSigner,
    "vertex": GoogleSigner,
}


def signer_of(name: str, config: ProviderConfig) -> Signer | None:
    """Return what adds a provider's credentials to requests; None where a key is all."""
    signer = _SIGNERS.get(config.kind)
    return None if signer is None or config.api_key_env else signer(name, config)


def choice_of(name: str, config: ProviderConfig) -> ResponsesChoice | None:
    """Return what chooses between the two APIs of a provider that has them; None: it has one."""
    return ResponsesChoice(name, config) if config.kind == "openai" else None


def wires_of(name: str, config: ProviderConfig) -> frozenset[Wire]:
    """Return the APIs whose requests a provider gets as they came."""
    choice = choice_of(name, config)
    return frozenset({DIALECTS[config.kind].wire}) if choice is None else choice.wires
