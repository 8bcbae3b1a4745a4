"""Providers that are known by name: where they listen, what holds their key, and what their servers do differently.

A row makes a provider: with its variables in the environment it is served without any file. `docs/providers.md` lists
them all.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from maniac_common.config_file import ConfigError

from maniac_core.config.checks import check_base_url

Kind = Literal["openai", "openai-responses", "anthropic", "gemini", "vertex", "bedrock", "scripted"]
"""Wire dialect."""


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """The peculiarities of a server that speaks OpenAI's wire."""

    limit: Literal["given", "max_tokens", "openai"] = "given"
    """The name under which a limit of output tokens is sent: the caller's, always `max_tokens`, or OpenAI's own rule,
    `max_completion_tokens` for every model since o1."""
    takes_stream_options: bool = True
    takes_developer: bool = True
    """Whether messages may have the role `developer`; otherwise they are sent with the role `system`."""
    takes_reasoning: bool = False
    """Takes `reasoning` as an object, in messages too, and sends its cost on request."""
    wants_reasoning_content: bool = False
    """Refuses a tool history without its thinking, which it takes as `reasoning_content`."""
    lists_models: bool = True
    """Whether it answers `GET …/models`."""
    key_header: str = "authorization"


class KnownProvider(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    kind: Kind = "openai"
    key: tuple[str, ...] = ()
    """Environment variables that may hold its key; several are used in turn."""
    needs_key: bool = True
    """False: a server of one's own, which is there when its base URL is in the environment, or one of a cloud."""
    place: tuple[tuple[str, str], ...] = ()
    """Where it is in a cloud: fields of its table, each with the environment variable that may hold it."""
    extra: str = ""
    """Optional dependency of the gateway that gets its credentials."""
    module: str = ""
    """The module by which it shows whether that is installed."""
    base_url: str = ""
    """Its address; "": only its variable or a table tells."""
    base_url_in: str = ""
    """Environment variable that replaces the address; "": NAME_BASE_URL."""
    path: str = ""
    """Added to an address in that variable that is a bare host."""
    hosts: tuple[str, ...] = ()
    """Domains by which its server is recognised behind another provider's name."""
    habits: Habits = Habits()
    prices: str = ""
    """Its name in the catalogue of prices; "": the same."""
    first_model: str = ""
    """A small model, for a first request."""

    @property
    def base_url_variable(self) -> str:
        """The environment variable that replaces the address."""
        return self.base_url_in or f"{self.name.upper()}_BASE_URL"

    @property
    def variables(self) -> frozenset[str]:
        """Every environment variable that is read for it."""
        return frozenset((*self.key, self.base_url_variable, *(name for _, name in self.place)))

    @property
    def setting(self) -> str:
        """What to set in the environment, for a sentence."""
        key = [" or ".join(self.key)] if self.needs_key else []
        place = [name for _, name in self.place]
        address = [] if self.base_url or place else [self.base_url_variable]
        return " and ".join([*key, *place, *address])

    @property
    def is_installed(self) -> bool:
        """Whether what gets its credentials is there."""
        return not self.module or importlib.util.find_spec(self.module) is not None

    @property
    def install(self) -> str:
        """How to install that."""
        return f".venv/bin/pip install '.[{self.extra}]'"

    def is_available(self, environ: Mapping[str, str]) -> bool:
        """Whether the environment holds what it needs."""
        has_key = not self.needs_key or self._has_key(environ)
        if self.place:
            has_place = all(environ.get(name) for _, name in self.place)
            return has_key and has_place and (self.is_installed or self._has_key(environ))
        return has_key and bool(self.base_url or environ.get(self.base_url_variable, "").strip())

    def defaults(self, environ: Mapping[str, str], *, own_base_url: bool) -> dict[str, Any]:
        """Return the fields that its table need not have. `own_base_url`: the table has one.

        Raises:
            ConfigError: the variable with its address holds none.
        """
        fields: dict[str, Any] = {"kind": self.kind}
        if self.needs_key or self._has_key(environ):
            fields["api_key_env"] = self.key[0] if len(self.key) == 1 else self.key
        fields |= {field: environ[name] for field, name in self.place if environ.get(name)}
        if not own_base_url and (base_url := self._address(environ)):
            fields["base_url"] = base_url
        return fields

    def _has_key(self, environ: Mapping[str, str]) -> bool:
        return any(environ.get(name) for name in self.key)

    def _address(self, environ: Mapping[str, str]) -> str:
        given = environ.get(self.base_url_variable, "").strip()
        if not given:
            return self.base_url
        try:
            check_base_url(self.base_url_variable, self.kind, given)
        except ValueError:
            # Unprinted: it may hold a credential.
            raise ConfigError(
                f"{self.base_url_variable} does not hold a URL such as {self.base_url or 'https://host/v1'}"
            ) from None
        is_bare = urlsplit(given).path in ("", "/")
        return given.rstrip("/") + self.path if self.path and is_bare else given


_OPEN_MODELS = Habits(limit="max_tokens", takes_developer=False)

KNOWN_PROVIDERS: dict[str, KnownProvider] = {
    row.name: row
    for row in (
        KnownProvider(
            name="openai",
            key=("OPENAI_API_KEY",),
            base_url="https://api.openai.com/v1",
            hosts=("openai.com",),
            habits=Habits(limit="openai"),
            first_model="gpt-4o-mini",
        ),
        KnownProvider(
            name="anthropic",
            kind="anthropic",
            key=("ANTHROPIC_API_KEY",),
            base_url="https://api.anthropic.com",
            first_model="claude-haiku-4-5",
        ),
        KnownProvider(
            name="openrouter",
            key=("OPENROUTER_API_KEY",),
            base_url="https://openrouter.ai/api/v1",
            hosts=("openrouter.ai",),
            habits=Habits(takes_reasoning=True),
            first_model="openai/gpt-4o-mini",
        ),
        KnownProvider(
            name="gemini",
            kind="gemini",
            key=("GEMINI_API_KEY",),
            base_url="https://generativelanguage.googleapis.com",
            prices="google",
            first_model="gemini-2.5-flash",
        ),
        KnownProvider(
            name="azure",
            key=("AZURE_OPENAI_API_KEY",),
            base_url_in="AZURE_OPENAI_BASE_URL",
            path="/openai/v1",
            hosts=("openai.azure.com", "cognitiveservices.azure.com", "ai.azure.com"),
            habits=Habits(limit="openai", key_header="api-key"),
        ),
        KnownProvider(
            name="cerebras",
            key=("CEREBRAS_API_KEY",),
            base_url="https://api.cerebras.ai/v1",
            hosts=("cerebras.ai",),
            habits=Habits(takes_developer=False),
        ),
        KnownProvider(
            name="cohere",
            key=("COHERE_API_KEY", "CO_API_KEY"),
            base_url="https://api.cohere.ai/compatibility/v1",
            hosts=("cohere.ai", "cohere.com"),
            habits=Habits(takes_stream_options=False),
        ),
        KnownProvider(
            name="deepseek",
            key=("DEEPSEEK_API_KEY",),
            base_url="https://api.deepseek.com/v1",
            hosts=("deepseek.com",),
            habits=Habits(limit="max_tokens", takes_developer=False, wants_reasoning_content=True),
        ),
        KnownProvider(
            name="fireworks",
            key=("FIREWORKS_API_KEY",),
            base_url="https://api.fireworks.ai/inference/v1",
        ),
        # Not GITHUB_TOKEN, which is set on many machines for other work.
        KnownProvider(
            name="github",
            key=("GITHUB_API_KEY",),
            base_url="https://models.github.ai/inference",
            hosts=("models.github.ai",),
            habits=Habits(lists_models=False),
        ),
        KnownProvider(
            name="groq", key=("GROQ_API_KEY",), base_url="https://api.groq.com/openai/v1"
        ),
        KnownProvider(
            name="huggingface", key=("HF_TOKEN",), base_url="https://router.huggingface.co/v1"
        ),
        KnownProvider(
            name="mistral",
            key=("MISTRAL_API_KEY",),
            base_url="https://api.mistral.ai/v1",
            hosts=("mistral.ai",),
            habits=Habits(limit="max_tokens", takes_developer=False, takes_stream_options=False),
            first_model="mistral-small-latest",
        ),
        KnownProvider(
            name="moonshot",
            key=("MOONSHOT_API_KEY",),
            base_url="https://api.moonshot.ai/v1",
            hosts=("moonshot.ai", "moonshot.cn"),
            habits=Habits(limit="max_tokens", takes_developer=False, wants_reasoning_content=True),
            prices="moonshotai",
        ),
        KnownProvider(
            name="nvidia",
            key=("NVIDIA_API_KEY",),
            base_url="https://integrate.api.nvidia.com/v1",
            hosts=("integrate.api.nvidia.com",),
            habits=_OPEN_MODELS,
        ),
        KnownProvider(
            name="perplexity",
            key=("PERPLEXITY_API_KEY",),
            base_url="https://api.perplexity.ai",
            hosts=("perplexity.ai",),
            habits=Habits(limit="max_tokens", takes_developer=False, lists_models=False),
        ),
        KnownProvider(
            name="together",
            key=("TOGETHER_API_KEY",),
            base_url="https://api.together.xyz/v1",
            hosts=("together.xyz", "together.ai"),
            habits=_OPEN_MODELS,
        ),
        KnownProvider(
            name="xai", key=("XAI_API_KEY",), base_url="https://api.x.ai/v1", prices="x-ai"
        ),
        KnownProvider(
            name="zai",
            key=("ZAI_API_KEY",),
            base_url="https://api.z.ai/api/paas/v4",
            hosts=("z.ai", "bigmodel.cn"),
            habits=_OPEN_MODELS,
        ),
        KnownProvider(
            name="vertex",
            kind="vertex",
            needs_key=False,
            place=(("project", "GOOGLE_CLOUD_PROJECT"), ("location", "GOOGLE_CLOUD_LOCATION")),
            extra="gcp",
            module="google.auth",
            prices="google",
            first_model="gemini-2.5-flash",
        ),
        KnownProvider(
            name="bedrock",
            kind="bedrock",
            key=("AWS_BEARER_TOKEN_BEDROCK",),
            needs_key=False,
            place=(("region", "AWS_REGION"),),
            base_url_in="AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
            extra="aws",
            module="botocore.auth",
            prices="aws",
        ),
        KnownProvider(
            name="ollama",
            key=("OLLAMA_API_KEY",),
            needs_key=False,
            path="/v1",
            habits=Habits(limit="max_tokens"),
        ),
        KnownProvider(name="lmstudio", key=("LMSTUDIO_API_KEY",), needs_key=False, path="/v1"),
        KnownProvider(name="vllm", key=("VLLM_API_KEY",), needs_key=False, path="/v1"),
    )
}


def known_as(name: str, kind: object) -> KnownProvider | None:
    """Return the row of a configured provider: by its name, else, in a cloud, by its kind; None: it has none.

    The name of a cloud with another kind is another server's.
    """
    row = KNOWN_PROVIDERS.get(name)
    if row is None and isinstance(kind, str):
        row = KNOWN_PROVIDERS.get(kind)
        return row if row is not None and row.place else None
    return None if row is not None and row.place and kind not in (None, row.kind) else row


def some_variables() -> str:
    """Return the variables of a few well-known providers, for a sentence that says how to begin."""
    names = ("openai", "anthropic", "openrouter", "gemini")
    return ", ".join(KNOWN_PROVIDERS[name].setting for name in names)
