"""Responses that were to be stored: captured completions of that wire, as their callers find them again."""

from __future__ import annotations

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.readable import Route, decoded, readable_input, readable_route
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.storage.stores.completions import CompletionDetail


class _Body(msgspec.Struct):
    messages: list[JsonObject]


class _Choice(msgspec.Struct):
    message: JsonObject


class _Asked(msgspec.Struct):
    store: bool | None = None
    instructions: str | None = None


_body = msgspec.json.Decoder(_Body).decode
_choices = msgspec.json.Decoder(list[_Choice]).decode
_asked = msgspec.json.Decoder(_Asked)


class StoredResponses:
    """Reads within the caller's project."""

    def __init__(self, stored: StoredCompletions, *, is_default: bool) -> None:
        """`is_default`: whether a request that does not say so is stored."""
        self._stored = stored
        self._is_default = is_default

    async def get(self, caller: Caller, response_id: str) -> tuple[CompletionDetail, Route]:
        """Return one, and how it came about.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND; DEPENDENCY_UNAVAILABLE.
        """
        try:
            found = await self._stored.with_request(caller, response_id)
        except GatewayError as err:
            if err.reason != Reason.ERROR_REASON_COMPLETION_NOT_FOUND:
                raise
            raise _not_found(response_id) from None
        route = readable_route(found.route)
        if route is None or route.wire != "responses" or not route.native_request:
            raise _not_found(response_id)
        asked = decoded(_asked, bytes(route.native_request))
        if asked is None or not (self._is_default if asked.store is None else asked.store):
            raise _not_found(response_id)
        return found, route

    async def delete(self, caller: Caller, response_id: str) -> None:
        """Delete what was asked and answered, for good; counts, usage and spend stay.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND; CONFLICT while a dataset holds it; DEPENDENCY_UNAVAILABLE.
        """
        await self.get(caller, response_id)
        await self._stored.delete(caller, response_id)

    async def transcript(self, caller: Caller, response_id: str) -> list[JsonObject]:
        """Return the conversation up to a response and with it, without instructions, which hold for one request.

        Raises:
            GatewayError: RESPONSE_NOT_FOUND, naming `previous_response_id`; DEPENDENCY_UNAVAILABLE.
        """
        try:
            found, route = await self.get(caller, response_id)
        except GatewayError as err:
            err.param = "previous_response_id"
            raise
        body, output = readable_input(found.input), found.completion.output
        if body is None or output is None:
            raise _not_found(response_id)
        added = set(route.added.messages) if route.added is not None else set()
        messages = [message for i, message in enumerate(_body(body).messages) if i not in added]
        asked = decoded(_asked, bytes(route.native_request))
        if asked is not None and asked.instructions and messages:
            messages = messages[1:]
        return [*messages, *(choice.message for choice in _choices(output)[:1])]


def _not_found(response_id: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_RESPONSE_NOT_FOUND,
        f"There is no stored response {response_id!r}: only those with store: true are kept.",
        param="id",
    )
