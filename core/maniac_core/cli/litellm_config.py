"""Converts a LiteLLM config.yaml: providers, aliases, and notes on settings that have no counterpart.

Values that may be secrets are never part of a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from maniac_core.config.known import KNOWN_PROVIDERS

_REFERENCE = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
# Prefix of a model -> kind, base URL ("": the entry must have one), variable of the key ("": none is needed).
_PREFIXES: dict[str, tuple[str, str, str]] = {
    # Names that mean the same there; those of servers without an address of their own are below.
    **{
        name: (row.kind, row.base_url, row.key[0])
        for name, row in KNOWN_PROVIDERS.items()
        if row.base_url and name != "huggingface"
    },
    "deepinfra": ("openai", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "fireworks_ai": ("openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "nvidia_nim": ("openai", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "perplexity": ("openai", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": ("openai", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together_ai": ("openai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "ollama": ("openai", "http://127.0.0.1:11434/v1", ""),
    "ollama_chat": ("openai", "http://127.0.0.1:11434/v1", ""),
    "hosted_vllm": ("openai", "", ""),
    "litellm_proxy": ("openai", "", ""),
    "llamafile": ("openai", "", ""),
    "lm_studio": ("openai", "", ""),
    "openai_like": ("openai", "", ""),
    "custom_openai": ("openai", "", ""),
    "text-completion-openai": ("openai", "", ""),
    "vllm": ("openai", "", ""),
}
_WITHOUT_PREFIX = (
    (re.compile(r"(gpt|chatgpt|o[0-9])\b"), "openai"),
    (re.compile(r"claude\b"), "anthropic"),
)
# Keys of an entry that have a counterpart, or that need none.
_CARRIED = {
    "model",
    "api_key",
    "api_base",
    "base_url",
    "timeout",
    "stream_timeout",
    "max_retries",
    "weight",
    "order",
}


class Entry(msgspec.Struct):
    """One deployment of `model_list`."""

    model_name: str
    litellm_params: dict[str, Any]


class Document(msgspec.Struct):
    """A config.yaml; keys that are not fields here are read as `Any`, because only their names are reported."""

    model_list: list[Entry] | None = None
    router_settings: dict[str, Any] | None = None
    litellm_settings: dict[str, Any] | None = None
    general_settings: dict[str, Any] | None = None
    environment_variables: dict[str, Any] | None = None


class Import(msgspec.Struct):
    """The result of the conversion."""

    providers: dict[str, dict[str, object]] = {}
    """Tables of `[providers.NAME]`."""
    aliases: dict[str, dict[str, object]] = {}
    """Tables of `[aliases.NAME]`."""
    notes: list[str] = []
    """Settings that could not be converted, each with its place and the remedy."""


class _Deployment(msgspec.Struct):
    slug: str
    order: int
    weight: float | None


def convert(document: Document, environ: Mapping[str, str]) -> Import:
    """Return the tables that do the same; `environ` resolves addresses that stand in variables."""
    return _Converter(environ).convert(document)


class _Converter:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._found = Import()
        # (kind, address, variable) -> name of the provider.
        self._names: dict[tuple[str, str, str], str] = {}
        self._groups: dict[str, list[_Deployment]] = {}
        # Variables that entries refer to, and those for secrets that stand in the file.
        self._referenced: set[str] = set()
        self._variables: dict[str, str] = {}

    def convert(self, document: Document) -> Import:
        entries = document.model_list or []
        keys = [str(entry.litellm_params.get("api_key")) for entry in entries]
        self._referenced = {found[1] for key in keys if (found := _REFERENCE.fullmatch(key))}
        for position, entry in enumerate(entries):
            self._entry(f"model_list[{position}] ({entry.model_name})", entry)
        router, settings = document.router_settings or {}, document.litellm_settings or {}
        self._aliases(router, settings)
        for name, section in (("router_settings", router), ("litellm_settings", settings)):
            handled = {
                "fallbacks",
                "model_group_alias",
                "num_retries",
                "timeout",
                "request_timeout",
            }
            self._retries_and_timeouts(section)
            for key in section.keys() - handled:
                self._note(f"{name}.{key}: is not carried")
        self._general(document.general_settings or {})
        for key in document.environment_variables or {}:
            self._note(f"environment_variables.{key}: set it in the gateway's environment")
        return self._found

    def _note(self, text: str) -> None:
        self._found.notes.append(text)

    def _entry(self, where: str, entry: Entry) -> None:
        params = entry.litellm_params
        model = params.get("model")
        if not isinstance(model, str) or not model:
            self._note(f"{where}: has no model")
            return
        prefix, name = _split(model)
        if prefix not in _PREFIXES:
            what = (
                f"provider {prefix!r}" if prefix else f"model {model!r}, which names no provider,"
            )
            self._note(
                f"{where}: {what} is not known; add it as [providers.NAME] if it speaks OpenAI's API"
            )
            return
        kind, default_url, default_variable = _PREFIXES[prefix]
        url = self._url(where, prefix, params.get("api_base") or params.get("base_url"))
        url = url or default_url
        if not url:
            self._note(f"{where}: api_base is missing, and {prefix} has no address of its own")
            return
        variable = self._variable(where, prefix, params.get("api_key"), default_variable)
        provider = self._provider(prefix, kind, url, variable)
        self._settings(where, provider, params)
        if name == "*":
            self._found.providers[provider].pop("models", None)
            self._note(
                f"{where}: any name is passed on to the provider: call its models {provider}/NAME"
            )
            return
        self._add_model(provider, name)
        deployment = _Deployment(
            slug=f"{provider}/{name}",
            order=params["order"] if isinstance(params.get("order"), int) else 0,
            weight=params["weight"] if isinstance(params.get("weight"), int | float) else None,
        )
        self._groups.setdefault(entry.model_name, []).append(deployment)

    def _url(self, where: str, prefix: str, given: Any) -> str:
        if not isinstance(given, str) or not given:
            return ""
        reference = _REFERENCE.fullmatch(given)
        if reference:
            given = self._environ.get(reference[1], "")
            if not given:
                self._note(
                    f"{where}: api_base is in the variable {reference[1]}, which is not set: write the address itself"
                )
                return ""
        url = str(given).rstrip("/")
        if prefix in ("ollama", "ollama_chat") and not re.search(r"/v\d+$", url):
            # LiteLLM speaks Ollama's own API there.
            url += "/v1"
        return url

    def _variable(self, where: str, prefix: str, given: Any, default: str) -> str:
        if not isinstance(given, str) or not given:
            return default
        reference = _REFERENCE.fullmatch(given)
        if reference:
            return reference[1]
        if given.lower() in ("none", "anything", "dummy", "fake", "fake-key", "sk-1234", "empty"):
            return ""
        variable = self._variable_of(
            given, default or f"{re.sub(r'[^A-Z0-9]+', '_', prefix.upper())}_API_KEY"
        )
        self._note(
            f"{where}: api_key is the secret itself (not shown): put it into the variable {variable}"
        )
        return variable

    def _variable_of(self, secret: str, wanted: str) -> str:
        """Return a variable for a secret: the same for the same, and not one that holds another."""
        if secret not in self._variables:
            name, number = wanted, 2
            while name in self._referenced or name in self._variables.values():
                name, number = f"{wanted}_{number}", number + 1
            self._variables[secret] = name
        return self._variables[secret]

    def _provider(self, prefix: str, kind: str, url: str, variable: str) -> str:
        identity = (kind, url, variable)
        if identity in self._names:
            return self._names[identity]
        wanted, number = prefix.removesuffix("_chat"), 2
        name = wanted
        while name in self._found.providers:
            name, number = f"{wanted}-{number}", number + 1
        table: dict[str, object] = {"kind": kind, "base_url": url}
        if variable:
            table["api_key_env"] = variable
        elif name in KNOWN_PROVIDERS and KNOWN_PROVIDERS[name].needs_key:
            # Its name alone would ask for its key.
            table["api_key_env"] = []
        table["models"] = []
        self._found.providers[name] = table
        self._names[identity] = name
        return name

    def _add_model(self, provider: str, name: str) -> None:
        models = self._found.providers[provider].get("models")
        # Without a list every name is passed on: a wildcard was there.
        if isinstance(models, list) and name not in models:
            models.append(name)

    def _settings(self, where: str, provider: str, params: Mapping[str, Any]) -> None:
        table = self._found.providers[provider]
        given: dict[str, object] = {}
        if isinstance(params.get("max_retries"), int):
            given["max_retries"] = params["max_retries"]
        timeouts = {
            ours: float(params[theirs])
            for theirs, ours in (("timeout", "total_s"), ("stream_timeout", "first_token_s"))
            if isinstance(params.get(theirs), int | float) and params[theirs] > 0
        }
        if timeouts:
            given["timeouts"] = timeouts
        for key, value in given.items():
            if table.setdefault(key, value) != value:
                self._note(
                    f"{where}: another model of [providers.{provider}] has another {key}, which counts"
                )
        for key in sorted(params.keys() - _CARRIED):
            self._note(f"{where}: litellm_params.{key} is not carried")

    def _aliases(self, router: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        fallbacks = {
            **_fallbacks(settings.get("fallbacks")),
            **_fallbacks(router.get("fallbacks")),
        }
        for name, deployments in self._groups.items():
            models = [d.slug for d in sorted(deployments, key=lambda d: d.order)]
            for other in fallbacks.get(name, ()):
                models += [d.slug for d in self._groups.get(other, ())]
                if other not in self._groups:
                    self._note(
                        f"fallbacks: {other!r}, which {name!r} falls back to, is not carried"
                    )
            models = list(dict.fromkeys(models))
            if models != [name]:
                self._add_alias(name, _alias(models, deployments))
        grouped = router.get("model_group_alias")
        for alias, target in grouped.items() if isinstance(grouped, dict) else ():
            group = target.get("model") if isinstance(target, dict) else target
            if group in self._groups and alias not in self._groups:
                table = self._found.aliases.get(group) or {"models": [group]}
                self._add_alias(str(alias), table)
            else:
                self._note(f"router_settings.model_group_alias.{alias}: its model is not carried")
        for name in fallbacks.keys() - self._groups.keys():
            self._note(f"fallbacks: {name!r} is not a model of model_list")

    def _add_alias(self, name: str, table: dict[str, object]) -> None:
        if not name or any(character in name for character in "/: ") or name in self._taken():
            models = ", ".join(str(model) for model in _listed(table["models"]))
            self._note(
                f"model_name {name!r} cannot be the name of an alias: call {models}, or choose another name"
            )
            return
        self._found.aliases[name] = table

    def _taken(self) -> set[str]:
        return {"maniac", "local", "demo", *KNOWN_PROVIDERS, *self._found.providers}

    def _retries_and_timeouts(self, section: Mapping[str, Any]) -> None:
        retries = section.get("num_retries")
        timeout = section.get("timeout", section.get("request_timeout"))
        for table in self._found.providers.values():
            if isinstance(retries, int):
                table.setdefault("max_retries", retries)
            if isinstance(timeout, int | float) and timeout > 0:
                table.setdefault("timeouts", {"total_s": float(timeout)})

    def _general(self, section: Mapping[str, Any]) -> None:
        told = {
            "master_key": "a key of its own is made at the first start; to keep this one, set MANIAC_API_KEY to it then",
            "database_url": "its tables are LiteLLM's; set [core] database_url to an empty database",
            "max_parallel_requests": "is not carried; see rate_limit in [core]",
        }
        for key in section:
            self._note(f"general_settings.{key}: {told.get(key, 'is not carried')}")


def _split(model: str) -> tuple[str, str]:
    """Return the provider that a LiteLLM model names, and the provider's own name of it."""
    prefix, slash, name = model.partition("/")
    if slash:
        return prefix, name
    for pattern, provider in _WITHOUT_PREFIX:
        if pattern.match(model):
            return provider, model
    return "", model


def _fallbacks(given: Any) -> dict[str, list[str]]:
    """Return `[{"a": ["b", "c"]}, …]` as one table."""
    found: dict[str, list[str]] = {}
    for table in given if isinstance(given, list) else ():
        if isinstance(table, dict):
            for name, others in table.items():
                found[str(name)] = [str(other) for other in _listed(others)]
    return found


def _listed(given: object) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _alias(models: list[str], deployments: list[_Deployment]) -> dict[str, object]:
    """Return the table of an alias: requests are spread over its deployments, and what follows is for fallbacks only.

    Deployments with an order of their own are used in that order instead.
    """
    table: dict[str, object] = {"models": models}
    own = {d.slug: 1.0 if d.weight is None else d.weight for d in deployments}
    is_ordered = len({d.order for d in deployments}) > 1
    if len(own) > 1 and not is_ordered and any(own.values()):
        # Whole numbers, as a weight of LiteLLM may be 0.7.
        scale = 1 if all(weight == int(weight) for weight in own.values()) else 100
        table["weights"] = [round(own.get(slug, 0) * scale) for slug in models]
    return table
