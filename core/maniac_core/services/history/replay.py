"""Replays: turns a captured request into one that is sent once more, as it was after its container had added to it."""

from __future__ import annotations

import msgspec

from maniac_core.domain.chat import ChatRequest, JsonObject, Replay
from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.readable import Route, readable_input, readable_route
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.storage.stores.completions import CompletionDetail

_body = msgspec.json.Decoder(JsonObject).decode
_encode = msgspec.json.Encoder().encode


class Replayer:
    """Finds captured requests for callers who want them sent once more."""

    def __init__(self, stored: StoredCompletions) -> None:
        self._stored = stored

    async def request(self, call: Call, completion_id: str, model: str) -> ChatRequest:
        """Return the request; its headers go with the call, unless the caller has some of these itself.

        Raises:
            GatewayError: COMPLETION_NOT_FOUND, or as `replay`.
        """
        found = await self._stored.with_request(call.caller, completion_id)
        asked, headers = replay(found, model)
        call.add_headers(headers)
        return asked


def replay(detail: CompletionDetail, model: str) -> tuple[ChatRequest, dict[str, str]]:
    """Return the request of a completion, and the headers that were forwarded with it.

    It goes to `model`, or if that is empty to the model that served it. Tags and metadata come along; the trace does
    not, whose sums are those of the caller's own requests.

    Raises:
        GatewayError: CONFLICT if the request is not stored, or cannot be read; MISSING_REQUIRED_PARAMETER if no model
            is known.
    """
    completion = detail.completion
    body = readable_input(detail.input)
    if body is None:
        raise GatewayError(
            Reason.ERROR_REASON_CONFLICT,
            f"The request of the completion {completion.id!r} is no longer stored, or cannot be read.",
            param="id",
        )
    wanted = model or completion.model or detail.requested_model
    if not wanted:
        raise GatewayError(
            Reason.ERROR_REASON_MISSING_REQUIRED_PARAMETER,
            f"The completion {completion.id!r} has no known model: name one as `model`.",
            param="model",
        )
    parameters = _body(body)
    messages = parameters.pop("messages")
    route = readable_route(detail.route) or Route()
    options = route.stream_options
    return (
        ChatRequest(
            messages=messages,
            model=wanted,
            parameters=parameters,
            include_usage=_includes_usage(options),
            stream_options=None if options is None else msgspec.Raw(_encode(options)),
            tags=completion.tags,
            metadata=None if completion.metadata is None else msgspec.Raw(completion.metadata),
            replay=Replay(of=completion.id, container=completion.container_label),
        ),
        route.headers,
    )


def _includes_usage(options: dict[str, msgspec.Raw] | None) -> bool:
    return options is not None and bytes(options.get("include_usage", b"")) == b"true"
