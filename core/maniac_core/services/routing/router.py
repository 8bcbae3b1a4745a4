"""Routing: from the slugs of a request to an ordered list of upstream models."""

from __future__ import annotations

import functools
import random
import uuid
from collections.abc import Iterable, Mapping

import msgspec

from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.config.provider import AliasConfig, ProviderConfig
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.services.routing.nearest import Nearest

_MODEL_IDS = uuid.UUID("6f1d9f0e-5c39-4f0a-9a5b-2f6a2f0f3b11")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream model that may serve a request."""

    slug: str
    """Canonical slug `provider/name`: what the answer's `model` says."""
    provider: str
    model: str
    """The provider's own name of the model."""
    config: ProviderConfig | None
    """None: the provider is known, but this deployment has no key for it."""

    @property
    def model_id(self) -> str:
        """UUID of the model, the same on every core."""
        return model_id(self.slug)


@functools.lru_cache(maxsize=10_000)
def model_id(slug: str) -> str:
    """Return the UUID of a model's canonical slug."""
    return str(uuid.uuid5(_MODEL_IDS, slug))


def normalise(slug: str) -> str:
    """Return the form in which slugs are compared: `:` and `/` are the same separator."""
    return slug.replace(":", "/")


class Router:
    """Resolves slugs against the configured providers and the known models.

    A provider that lists its models serves only those; any other passes every name through.
    """

    def __init__(
        self,
        providers: Mapping[str, ProviderConfig],
        known_models: Mapping[str, Iterable[str]],
        aliases: Mapping[str, AliasConfig] | None = None,
    ) -> None:
        """`known_models`: provider name -> names from the bundled catalogue."""
        self.aliases = aliases or {}
        self._providers = dict(providers)
        self._index: dict[str, Candidate] = {}
        self._by_short_name: dict[str, list[Candidate]] = {}
        self._by_id: dict[str, Candidate] = {}
        self._nearest: Nearest | None = None
        self._found: dict[str, dict[str, Candidate]] = {}
        self._closed = {name for name, config in providers.items() if config.models}
        for name, config in providers.items():
            for model in config.models or known_models.get(name, ()):
                self._add(name, model, config)
        for name in KNOWN_PROVIDERS.keys() - providers.keys():
            for model in known_models.get(name, ()):
                self._add(name, model, None)

    @classmethod
    def bundled(
        cls,
        providers: Mapping[str, ProviderConfig],
        catalogue: Catalogue,
        aliases: Mapping[str, AliasConfig] | None = None,
    ) -> Router:
        """Return one that knows the models of the bundled catalogue."""
        names = {*KNOWN_PROVIDERS, *providers}
        return cls(
            providers,
            {name: [entry.name for entry in catalogue.models(name)] for name in names},
            aliases,
        )

    def set_found(self, provider: str, models: Iterable[str]) -> None:
        """Make the models known that a provider lists now, and forget those that it listed before."""
        config = self._providers[provider]
        wanted = dict.fromkeys(models)
        before = self._found.get(provider, {})
        for model, candidate in before.items():
            if model not in wanted:
                self._forget(candidate)
        found = {model: before[model] for model in wanted if model in before}
        for model in wanted:
            if model not in found and normalise(f"{provider}/{model}") not in self._index:
                found[model] = self._add(provider, model, config)
        self._found[provider] = found

    @property
    def has_providers(self) -> bool:
        """Whether any provider is served."""
        return bool(self._providers)

    def adopt(self, provider: str, config: ProviderConfig) -> None:
        """Serve a further provider, which lists its models."""
        self._providers[provider] = config
        self._closed.add(provider)
        for model in config.models:
            self._add(provider, model, config)

    def drop(self, provider: str) -> None:
        """Serve a provider no more: from now on, its models do not exist."""
        self._providers.pop(provider, None)
        self._closed.discard(provider)
        gone = [candidate for candidate in self._index.values() if candidate.provider == provider]
        for candidate in gone:
            del self._index[normalise(candidate.slug)]
            del self._by_id[candidate.model_id]
            self._by_short_name[normalise(candidate.model)].remove(candidate)

    def unknown(self, slug: str, param: str = "model") -> GatewayError:
        """Return the error for a slug that names nothing, with the nearest model that can be called."""
        if self._nearest is None:
            # Made for the first that is not found, and again when a provider was found to serve more.
            names = {
                form: candidate.slug
                for candidate in self._index.values()
                if candidate.config is not None
                for form in (candidate.model, candidate.slug)
            }
            names |= {alias: alias for alias in self.aliases}
            self._nearest = Nearest(names)
        return unknown_model(slug, param, self._nearest.find(slug))

    def known(self) -> list[Candidate]:
        """Return all known models."""
        return list(self._index.values())

    def knows(self, slug: str) -> bool:
        """Whether a canonical slug is configured, in the catalogue or found at a provider, not just passed through."""
        return normalise(slug) in self._index

    def _forget(self, candidate: Candidate) -> None:
        self._nearest = None
        del self._index[normalise(candidate.slug)]
        self._by_id.pop(candidate.model_id, None)
        self._by_short_name[normalise(candidate.model)].remove(candidate)

    def _add(self, provider: str, model: str, config: ProviderConfig | None) -> Candidate:
        candidate = Candidate(
            slug=f"{provider}/{model}", provider=provider, model=model, config=config
        )
        self._nearest = None
        self._index.setdefault(normalise(candidate.slug), candidate)
        self._by_id[candidate.model_id] = candidate
        if config is not None:
            self._by_short_name.setdefault(normalise(model), []).append(candidate)
        return candidate

    def route(self, slug: str) -> list[Candidate]:
        """Return what serves a slug, best first: of an alias its models, of anything else what `find` returns."""
        alias = self.aliases.get(slug)
        names = (slug,) if alias is None else _in_turn(alias)
        return [found for name in names if (found := self.find(name)) is not None]

    def canonical(self, slug: str) -> str | None:
        """Return the slug under which something is kept that names a model or an alias; None: there is neither."""
        if slug in self.aliases:
            return slug
        found = self.find(slug)
        return found.slug if found is not None else None

    def find(self, slug: str) -> Candidate | None:
        """Return what a global slug, an unambiguous short name or a model UUID stands for."""
        wanted = normalise(slug)
        found = self._index.get(wanted) or self._by_id.get(slug)
        if found is not None:
            return found
        provider, separator, _ = wanted.partition("/")
        if separator and provider not in self._closed:
            name = slug[len(provider) + 1 :]
            if name and provider in self._providers:
                return Candidate(
                    slug=f"{provider}/{name}",
                    provider=provider,
                    model=name,
                    config=self._providers[provider],
                )
            if name and provider in KNOWN_PROVIDERS:
                return Candidate(
                    slug=f"{provider}/{name}", provider=provider, model=name, config=None
                )
        namesakes = self._by_short_name.get(wanted, ())
        return namesakes[0] if len(namesakes) == 1 else None


def _in_turn(alias: AliasConfig) -> tuple[str, ...]:
    """Return the models of an alias for one request: one by its weight, then the others in their order."""
    models = alias.models
    if not alias.weights:
        return models
    [first] = random.choices(models, alias.weights)  # noqa: S311 - no secret
    return (first, *(model for model in models if model != first))


def unknown_model(slug: str, param: str = "model", near: str | None = None) -> GatewayError:
    """Return the error for a slug that names nothing; `near` is the one that was probably meant."""
    kind, _, rest = normalise(slug).partition("/")
    if kind == "maniac":
        label = rest.partition("/")[0]
        return GatewayError(
            Reason.ERROR_REASON_CONTAINER_NOT_FOUND,
            f"There is no container {label!r}.",
            param=param,
        )
    return GatewayError(
        Reason.ERROR_REASON_MODEL_NOT_FOUND,
        f"There is no model {slug!r}, or no configured provider serves it."
        + (f" Did you mean {near!r}?" if near else ""),
        param=param,
    )
