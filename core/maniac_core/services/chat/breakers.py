"""The circuit breakers of one provider: one per model, and one for all of them that counts failed connections only.

So a model that fails, however often it is tried, pauses nothing but itself, and a healthy one hides no dead one.
"""

from __future__ import annotations

from collections.abc import Iterator

from maniac_core.services.chat.breaker import Breaker, BreakerState

# Callers name models freely where every name is passed through.
_MAX_MODELS = 1000


class Permit:
    """Permission for one call; given back through exactly one of its methods."""

    __slots__ = ("_model", "_owner", "_permits")

    def __init__(self, owner: ProviderBreakers, model: str, permits: tuple[int, int]) -> None:
        self._owner = owner
        self._model = model
        self._permits = permits

    def succeeded(self) -> None:
        """The model answered, if only to refuse the request."""
        connection, model = self._permits
        self._owner.connection.succeeded(connection)
        if (breaker := self._owner.models.get(self._model)) is not None:
            breaker.succeeded(model)

    def failed(self) -> None:
        """The provider could be reached, and the model failed."""
        connection, model = self._permits
        self._owner.connection.succeeded(connection)
        self._owner.breaker_of(self._model).failed(model)

    def unreachable(self, *, is_repeat: bool) -> None:
        """No connection to the provider could be made: this says nothing about the model.

        `is_repeat`: the same request has reported this before.
        """
        connection, model = self._permits
        self._owner.connection.failed(connection, is_repeat=is_repeat)
        if (breaker := self._owner.models.get(self._model)) is not None:
            breaker.abandoned(model)

    def abandoned(self) -> None:
        """The call ended without an outcome."""
        connection, model = self._permits
        self._owner.connection.abandoned(connection)
        if (breaker := self._owner.models.get(self._model)) is not None:
            breaker.abandoned(model)


class ProviderBreakers:
    """The breakers of one provider. A model gets one when it first fails."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.connection = Breaker(f"the connection to {provider}")
        self.models: dict[str, Breaker] = {}

    def enter(self, model: str) -> Permit | None:
        """Ask for permission to call a model; None: it, or its provider, is paused."""
        breaker = self.models.get(model)
        # Both are asked before either gives a permit, which for a paused one is that of its only probe.
        if breaker is not None and not breaker.admits:
            return None
        connection = self.connection.enter()
        if connection is None:
            return None
        permit = breaker.enter() if breaker is not None else 0
        assert permit is not None, "it was asked just before"
        return Permit(self, model, (connection, permit))

    def is_reachable(self) -> bool:
        """Whether the provider as a whole is called at present."""
        return self.connection.admits

    def retry_after_s(self, model: str) -> float:
        """Seconds until a call of the model may be let through."""
        breaker = self.models.get(model)
        own_s = breaker.retry_after_s if breaker is not None else 0.0
        return max(own_s, self.connection.retry_after_s)

    def states(self) -> Iterator[tuple[str, BreakerState]]:
        """Yield the states by model; "" is the provider as a whole. May be called from another thread."""
        yield "", self.connection.state
        for model, breaker in list(self.models.items()):
            yield model, breaker.state

    def breaker_of(self, model: str) -> Breaker:
        """Return the breaker of a model, made if need be."""
        breaker = self.models.get(model)
        if breaker is None:
            if len(self.models) >= _MAX_MODELS:
                self._forget_one()
            breaker = self.models[model] = Breaker(f"{self.provider}/{model}")
        return breaker

    def _forget_one(self) -> None:
        """Make room: the oldest one that pauses nothing goes, or else the oldest."""
        closed = (name for name, breaker in self.models.items() if breaker.state == "closed")
        del self.models[next(closed, next(iter(self.models)))]
