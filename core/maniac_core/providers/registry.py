"""The dialects by the `kind` of a provider's configuration; adding one is a module and a row here."""

from __future__ import annotations

from collections.abc import Mapping

from maniac_core.providers.anthropic.dialect import AnthropicDialect
from maniac_core.providers.base import Dialect
from maniac_core.providers.gemini.dialect import GeminiDialect
from maniac_core.providers.openai.dialect import OpenAIDialect

DIALECTS: Mapping[str, Dialect] = {
    "openai": OpenAIDialect(),
    "anthropic": AnthropicDialect(),
    "gemini": GeminiDialect(),
    "scripted": OpenAIDialect(),
}
