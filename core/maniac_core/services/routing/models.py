"""The catalogue of models: bundled data, what providers list themselves, and containers' models, in one list."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence

from maniac_common.supervised import supervised

from maniac_core.config.provider import ProviderConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.containers import SubModel
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.models import Model, Pricing
from maniac_core.domain.paging import Page
from maniac_core.providers.discovery import Discovery, DiscoveryError
from maniac_core.providers.listing import DiscoveredModel
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.providers.pricing.prices import Prices
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.transport import Transport
from maniac_core.services.routing.containers import ContainerService
from maniac_core.services.routing.router import Candidate, Router, model_id, normalise
from maniac_core.storage.stores.containers import ContainerStore

_log = logging.getLogger(__name__)
_REFRESH_S = 600.0


class ModelService:
    """Lists and finds models. `keep_fresh` asks the providers, in the background."""

    def __init__(
        self,
        *,
        providers: Mapping[str, ProviderConfig],
        keys: Mapping[str, Sequence[str]],
        router: Router,
        catalogue: Catalogue,
        containers: ContainerService,
        store: ContainerStore,
        transport: Transport,
    ) -> None:
        """`keys`: provider name -> its keys; a provider that needs one and has none is not enabled."""
        self._providers = providers
        self._keys = keys
        self._router = router
        self._catalogue = catalogue
        self._containers = containers
        self._store = store
        self._transport = transport
        self._aliases_by_id = {model_id(name): name for name in router.aliases}
        self._discovered: dict[str, dict[str, DiscoveredModel]] = {}

    async def keep_fresh(self) -> None:
        """Ask every enabled provider that does not list its models in the configuration, again and again."""
        names = [name for name, config in self._providers.items() if self._is_asked(config, name)]
        await asyncio.gather(
            *(
                # Each by itself: one odd provider must not keep the others from being asked.
                supervised(f"asking {name} for its models", functools.partial(self._ask, name))
                for name in names
            )
        )

    def _is_asked(self, config: ProviderConfig, name: str) -> bool:
        has_key = not config.api_key_env or bool(self._keys.get(name))
        return not config.models and config.kind != "scripted" and has_key

    async def _ask(self, name: str) -> None:
        config = self._providers[name]
        discovery = Discovery(name, config, DIALECTS[config.kind], self._transport)
        key = next(iter(self._keys.get(name, ())), None)
        last = ""
        while True:
            try:
                models = await discovery.models(key)
            except DiscoveryError as err:
                if last != str(err):
                    _log.warning("provider %s lists no models: %s", name, err)
                last = str(err)
            else:
                last = ""
                self._discovered[name] = {model.name: model for model in models}
                self._router.set_found(name, self._discovered[name])
            await asyncio.sleep(_REFRESH_S)

    async def get(self, caller: Caller, name: str) -> Model:
        """Return the model of a full slug, an unambiguous short slug or a UUID.

        Raises:
            GatewayError: MODEL_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        for model in await self._sub_models(caller):
            if normalise(model.id) == normalise(name) or model.uid == name:
                return model
        if name in self._router.aliases or name in self._aliases_by_id:
            alias = self._alias(self._aliases_by_id.get(name, name))
            if alias is not None:
                return alias
        found = self._router.find(name)
        if found is None or not self._is_enabled(found):
            raise GatewayError(
                Reason.ERROR_REASON_MODEL_NOT_FOUND,
                f"There is no model {name!r}.",
                param="model",
            )
        return self._describe(found)

    async def _all(self, caller: Caller) -> list[Model]:
        models = [
            self._describe(candidate)
            for candidate in self._router.known()
            if self._is_enabled(candidate)
        ]
        models += [
            alias for name in self._router.aliases if (alias := self._alias(name)) is not None
        ]
        return models + await self._sub_models(caller)

    async def _of_container(self, caller: Caller, name: str) -> list[Model]:
        container = await self._containers.lookup(caller, name)
        if container is None:
            return []
        models = [self._sub_model(container.label, sub) for sub in container.sub_models]
        wanted = container.default_model or container.initial_model
        if wanted in self._router.aliases:
            alias = self._alias(wanted)
            models += [alias] if alias is not None else []
        elif (default := self._router.find(wanted)) is not None:
            models.append(self._describe(default))
        return models

    async def _sub_models(self, caller: Caller) -> list[Model]:
        rows = await self._store.models_of_project(caller.project)
        return [self._sub_model(label, sub) for label, sub in rows]

    def _is_enabled(self, candidate: Candidate) -> bool:
        config = candidate.config
        if config is None:
            return False
        return config.api_key_env is None or bool(self._keys.get(candidate.provider))

    def _alias(self, name: str) -> Model | None:
        """Describe an alias by what holds for all of its models; None: none of them is enabled."""
        targets = [
            self._describe(found)
            for slug in self._router.aliases[name].models
            if (found := self._router.find(slug)) is not None and self._is_enabled(found)
        ]
        if not targets:
            return None
        first, *others = targets

        def common(field: str) -> tuple[str, ...]:
            return tuple(
                [
                    value
                    for value in getattr(first, field)
                    if all(value in getattr(other, field) for other in others)
                ]
            )

        def least(field: str) -> int | None:
            values = [getattr(target, field) for target in targets]
            return None if None in values else min(values)

        return Model(
            id=name,
            uid=model_id(name),
            slug=name,
            provider="",
            owned_by="maniac",
            context_window=least("context_window"),
            max_output_tokens=least("max_output_tokens"),
            input_modalities=common("input_modalities"),
            output_modalities=common("output_modalities"),
            supported_parameters=common("supported_parameters"),
            # The cost depends on the model that answers.
            pricing=first.pricing if all(o.pricing == first.pricing for o in others) else None,
            alias_models=tuple([target.id for target in targets]),
        )

    def _sub_model(self, label: str, sub: SubModel) -> Model:
        base = self._router.find(sub.model)
        described = self._describe(base) if base is not None else None
        return Model(
            id=f"maniac:{label}:{sub.slug}",
            uid=sub.id,
            slug=sub.slug,
            provider="maniac",
            owned_by=described.owned_by if described else "maniac",
            created=sub.created,
            display_name=described.display_name if described else None,
            context_window=described.context_window if described else None,
            max_output_tokens=described.max_output_tokens if described else None,
            input_modalities=described.input_modalities if described else (),
            output_modalities=described.output_modalities if described else (),
            supported_parameters=described.supported_parameters if described else (),
            pricing=described.pricing if described else None,
            container=label,
            base_model=sub.model,
        )

    def _describe(self, candidate: Candidate) -> Model:
        entry = self._catalogue.find(candidate.provider, candidate.model)
        said = self._discovered.get(candidate.provider, {}).get(candidate.model)
        said = said or DiscoveredModel(name=candidate.model)
        prices = said.prices or (entry.prices() if entry else None)
        vendor = candidate.model.partition("/")[0] if "/" in candidate.model else None
        return Model(
            id=candidate.slug,
            uid=candidate.model_id,
            slug=candidate.model,
            provider=candidate.provider,
            owned_by=said.owned_by or vendor or candidate.provider,
            created=said.created,
            display_name=said.display_name or (entry.display_name if entry else None),
            context_window=said.context_window or (entry.context_window if entry else None),
            max_output_tokens=said.max_output_tokens
            or (entry.max_output_tokens if entry else None),
            input_modalities=said.input_modalities,
            output_modalities=said.output_modalities,
            supported_parameters=said.supported_parameters,
            pricing=_pricing(prices) if prices else None,
        )

    async def list(
        self, caller: Caller, page: Page | None, container: str = ""
    ) -> tuple[list[Model], int]:
        """Return the models by id, or a page of them, and the count of all.

        With a container (label, `maniac:label` or id): its own models and the one that serves it by default; none if
        there is no such container.

        Raises:
            GatewayError: DEPENDENCY_UNAVAILABLE.
        """
        found = (
            await self._of_container(caller, container) if container else await self._all(caller)
        )
        found.sort(key=lambda model: model.id)
        if page is None:
            return found, len(found)
        start = page.skip
        if page.after is not None:
            ids = [model.id for model in found]
            start += ids.index(page.after) + 1 if page.after in ids else len(ids)
        return found[start : start + page.limit], len(found)


def _pricing(prices: Prices) -> Pricing:
    """Convert femto-USD per token: a millionth of a nano-USD times a million tokens is the same number."""
    return Pricing(
        input=prices.input,
        output=prices.output,
        cache_read=prices.cache_read,
        cache_write=prices.cache_write,
        reasoning=prices.reasoning,
        request_nano_usd=None if prices.request is None else prices.request // 1_000_000,
    )
