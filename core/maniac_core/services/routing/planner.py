"""The plan of a request: which upstream models may serve it, in order, and what each would be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import ChatRequest, JsonObject, Native, Wire
from maniac_core.domain.containers import Container, SubModel
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.providers.base import NativePrompt, Prompt
from maniac_core.providers.pricing.catalogue import Catalogue
from maniac_core.services.routing.parameters import clean_messages, clean_parameters
from maniac_core.services.routing.router import Candidate, Router, normalise, unknown_model

_TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")


class Addition(msgspec.Struct, frozen=True):
    """The parts of a prompt that its container added."""

    messages: tuple[int, ...]
    """Positions, from 0."""
    parameters: tuple[str, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate with what it would be sent."""

    candidate: Candidate
    prompt: Prompt
    container: Container | None = None
    added: Addition | None = None
    """The container's additions."""
    dropped: tuple[str, ...] = ()
    """Parameters that were accepted but are not sent."""
    max_output_tokens: int | None = None
    context_window: int | None = None
    unfit: str | None = None
    """A field of the request that the candidate's API cannot carry, so that it is not called."""


class ContainerSource(Protocol):
    """Where live containers are found."""

    def find(self, caller: Caller, label: str) -> Awaitable[Container | None]:
        """Return the live container of that label in the caller's project."""


class Planner:
    """Resolves slugs and merges what containers add."""

    def __init__(
        self,
        router: Router,
        catalogue: Catalogue,
        containers: ContainerSource,
        wires: Mapping[str, frozenset[Wire]],
    ) -> None:
        """`wires`: the APIs that each provider speaks."""
        self._router = router
        self._wires = wires
        self._catalogue = catalogue
        self._containers = containers

    async def plan(
        self, caller: Caller, request: ChatRequest, headers: dict[str, str], *, stream: bool
    ) -> list[Step]:
        """Return the steps of a request, best first, without duplicates.

        Raises:
            GatewayError: MISSING_REQUIRED_PARAMETER when no model is named; MODEL_NOT_FOUND or CONTAINER_NOT_FOUND
                when the first one is unknown (an unknown fallback is skipped); UNSUPPORTED_PARAMETER.
        """
        own, dropped = clean_parameters(request.parameters, reject=True)
        messages, dropped_parts = clean_messages(request.messages)
        dropped += dropped_parts
        wanted = [slug for slug in (request.model, *request.fallbacks) if slug]
        if not wanted:
            raise GatewayError(
                Reason.ERROR_REASON_MISSING_REQUIRED_PARAMETER,
                "Missing required parameter: 'model'.",
                param="model",
            )
        is_embedding = request.wire == "embeddings"
        steps: list[Step] = []
        seen: set[tuple[str, int | None, str | None]] = set()
        for position, slug in enumerate(dict.fromkeys(wanted)):
            try:
                candidates, container, sub = await self.resolve(caller, slug)
            except GatewayError:
                if position == 0:
                    raise
                continue
            merged, parameters, added = messages, own, None
            if container is not None and not is_embedding:
                merged, positions = _merged_messages(container, sub, messages)
                parameters = _merged_parameters(container, sub, own)
                names = tuple(name for name in parameters if own.get(name) is None)
                added = Addition(positions, names) if positions or names else None
            elif request.replay is not None and request.replay.container is not None:
                container = await self._containers.find(caller, request.replay.container)
            prompt = Prompt(
                messages=merged,
                parameters=parameters,
                stream=stream,
                headers=headers,
                is_embedding=is_embedding,
            )
            for candidate in candidates:
                identity = (
                    candidate.slug,
                    container.key if container else None,
                    sub.slug if sub else None,
                )
                if identity in seen:
                    continue
                seen.add(identity)
                told, unfit = prompt, None
                if request.native is not None:
                    speaks = request.wire in self._wires.get(candidate.provider, ())
                    told = msgspec.structs.replace(prompt, wire=request.wire if speaks else "chat")
                    if speaks and request.native.is_whole:
                        told = _native_prompt(told, request.native, added)
                    else:
                        told = msgspec.structs.replace(told, untranslated=request.native.only)
                        unfit = request.native.required
                entry = self._catalogue.find(candidate.provider, candidate.model)
                steps.append(
                    Step(
                        candidate=candidate,
                        prompt=told,
                        container=container,
                        added=added,
                        dropped=tuple(dropped),
                        max_output_tokens=entry.max_output_tokens if entry else None,
                        context_window=entry.context_window if entry else None,
                        unfit=unfit,
                    )
                )
        return steps

    async def resolve(
        self, caller: Caller, slug: str
    ) -> tuple[list[Candidate], Container | None, SubModel | None]:
        """Return the models that serve a slug, several for an alias, and the container and sub-model they are routed through.

        Raises:
            GatewayError: MODEL_NOT_FOUND, CONTAINER_NOT_FOUND, DEPENDENCY_UNAVAILABLE.
        """
        kind, _, rest = normalise(slug).partition("/")
        if kind != "maniac" or not rest:
            found = self._router.route(slug)
            if not found:
                raise self._router.unknown(slug)
            return found, None, None
        label, _, sub_slug = rest.partition("/")
        container = await self._containers.find(caller, label)
        if container is None:
            raise unknown_model(slug)
        sub = None
        model = container.default_model or container.initial_model
        if sub_slug:
            # Separators are the same on input, so the sub-model's own are compared normalised as well.
            sub = next((m for m in container.sub_models if normalise(m.slug) == sub_slug), None)
            if sub is None:
                raise GatewayError(
                    Reason.ERROR_REASON_MODEL_NOT_FOUND,
                    f"The container {label!r} has no model {sub_slug!r}.",
                    param="model",
                )
            model = sub.model
        found = self._router.route(model)
        if not found:
            raise self._router.unknown(model)
        return found, container, sub

    def canonical(self, slug: str) -> str:
        """Return the slug under which a model, an alias or a container's route is kept that `resolve` knows."""
        return self._router.canonical(slug) or slug


def _native_prompt(prompt: Prompt, native: Native, added: Addition | None) -> Prompt:
    return msgspec.structs.replace(
        prompt,
        native=NativePrompt(
            body=native.body,
            added_messages=added.messages if added is not None else (),
            added_parameters=added.parameters if added is not None else (),
        ),
    )


def _merged_messages(
    container: Container, sub: SubModel | None, messages: list[JsonObject]
) -> tuple[list[JsonObject], tuple[int, ...]]:
    """Put the container's system prompt and examples in front, unless the request brings a system prompt.

    Returns the messages, and the positions of those that were added.
    """
    added: list[JsonObject] = []
    if not any(message.get("role") in ("system", "developer") for message in messages):
        prompt = _system_prompt(container, sub)
        if prompt is not None:
            added.append({"role": "system", "content": prompt})
    few_shot = container.default_few_shot_messages
    if sub is None and container.optimized_few_shot_messages is not None:
        few_shot = container.optimized_few_shot_messages
    if not few_shot:
        return ([*added, *messages] if added else messages), tuple(range(len(added)))
    # A system prompt of the caller stays first.
    own_system = 0
    while own_system < len(messages) and messages[own_system].get("role") in (
        "system",
        "developer",
    ):
        own_system += 1
    first = len(added) + own_system
    positions = (*range(len(added)), *range(first, first + len(few_shot)))
    return [*added, *messages[:own_system], *few_shot, *messages[own_system:]], positions


def _system_prompt(container: Container, sub: SubModel | None) -> str | None:
    prompts = [container.default_system_prompt]
    if sub is None:
        prompts.insert(0, container.optimized_system_prompt)
    else:
        prompts.insert(0, sub.default_system_prompt)
    prompt = next((text for text in prompts if text is not None), None)
    prefix = container.system_prompt_prefix
    if prefix is None:
        return prompt
    return f"{prefix}\n\n{prompt}" if prompt is not None else prefix


def _merged_parameters(container: Container, sub: SubModel | None, own: JsonObject) -> JsonObject:
    """Merge key by key: default, optimized, sub-model's, request's."""
    merged: JsonObject = {}
    layers = [container.default_parameters]
    if sub is None:
        layers.append(container.optimized_parameters)
    else:
        layers.append(sub.default_parameters)
    for layer in [clean_parameters(layer or {}, reject=False)[0] for layer in layers] + [own]:
        given = {key: value for key, value in layer.items() if value is not None}
        if any(key in given for key in _TOKEN_LIMITS):
            # The two names mean one thing, so the later layer replaces whichever was set.
            for key in _TOKEN_LIMITS:
                merged.pop(key, None)
        merged.update(given)
    return merged
