"""Export: captured completions as JSON Lines, in the order of commits.

The full form holds the request and the record, and can be registered again as it is. The fine-tuning form is OpenAI's:
`messages` with the answer as the last one, and `tools`; incomplete answers are omitted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Literal

import msgspec

from maniac_core.domain.callers import Caller
from maniac_core.domain.chat import JsonObject, Usage
from maniac_core.domain.completions import CompletionFilter, StoredCompletion, StoredInput
from maniac_core.domain.errors import code_of
from maniac_core.domain.paging import Page
from maniac_core.domain.readable import readable_input, readable_route
from maniac_core.services.history.completions import StoredCompletions
from maniac_core.services.history.pacing import Pace
from maniac_core.storage.stores.completions import CompletionStore

ExportFormat = Literal["full", "fine_tuning"]

_encode = msgspec.json.Encoder().encode
_decode_choices = msgspec.json.Decoder(list[JsonObject]).decode
_decode_input = msgspec.json.Decoder(JsonObject).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NOTHING = StoredInput(requested_model="", streamed=False, body=None, route=None)
_PAGE = 20
"""Answers that are read at a time: whoever waits for the event loop waits a millisecond at most."""
_BODIES = 5
"""Requests that are in memory at a time: one may be tens of megabytes."""
PAUSE = 1.0
"""How long an export stays away, as a share of what a piece of it took."""
_MESSAGE_KEYS = ("role", "content", "refusal", "name", "tool_calls", "tool_call_id", "weight")
_SHARED = ("tools", "parallel_tool_calls")


class Exporter:
    """Reads within the caller's project."""

    def __init__(self, store: CompletionStore, stored: StoredCompletions) -> None:
        self._store = store
        self._stored = stored

    async def lines(
        self,
        caller: Caller,
        form: ExportFormat,
        *,
        model: str = "",
        container: str = "",
        metadata_json: bytes = b"",
    ) -> AsyncGenerator[bytes, None]:
        """Yield a line per completion, each with its line end. The filters are those of the list.

        Raises:
            GatewayError: VALIDATION_ERROR for metadata that is not an object; DEPENDENCY_UNAVAILABLE.
        """
        wanted = await self._stored.select(
            caller, model=model, container=container, metadata_json=metadata_json
        )
        if wanted is None:
            return
        page = Page(limit=_PAGE, ascending=True)
        pace = Pace(PAUSE)
        while True:
            found = await self._page(caller, wanted, page)
            await pace.rest()
            for start in range(0, len(found), _BODIES):
                lines = await self._lines(caller, found[start : start + _BODIES], form)
                await pace.rest()
                for line in lines:
                    yield line
                # How long the reader took is its own affair.
                pace.begin()
            if len(found) < _PAGE:
                return
            page = msgspec.structs.replace(page, after=found[-1].id)

    async def _lines(
        self, caller: Caller, completions: list[StoredCompletion], form: ExportFormat
    ) -> list[bytes]:
        inputs = await self._inputs(caller, completions)
        lines = []
        for completion in completions:
            given = inputs.get(completion.id, _NOTHING)
            line = (
                _full_line(completion, given)
                if form == "full"
                else fine_tuning_line(completion, given.body)
            )
            if line is not None:
                lines.append(line + b"\n")
        return lines

    async def _page(
        self, caller: Caller, wanted: CompletionFilter, page: Page
    ) -> list[StoredCompletion]:
        return await self._store.list(caller.project, wanted, page)

    async def _inputs(
        self, caller: Caller, completions: list[StoredCompletion]
    ) -> dict[str, StoredInput]:
        ids = [completion.id for completion in completions]
        return await self._store.inputs(caller.project, ids)


def _full_line(completion: StoredCompletion, given: StoredInput) -> bytes:
    return _encode({"input": request_json(given), "output": record_json(completion, given)})


def request_json(given: StoredInput) -> JsonObject | None:
    """Return a request as it can be registered; None when it is not stored, or cannot be read."""
    readable = readable_input(given.body)
    if readable is None:
        return None
    asked: JsonObject = {"model": given.requested_model} if given.requested_model else {}
    if given.streamed:
        asked["stream"] = True
    route = readable_route(given.route)
    if route is not None and route.stream_options is not None:
        asked["stream_options"] = route.stream_options
    return {**asked, **_members(readable)}


def record_json(completion: StoredCompletion, given: StoredInput) -> JsonObject:
    """Return a record as it can be registered, with what else it takes to send its request once more."""
    spend = completion.spend_nano_usd
    record = {
        "id": completion.id,
        "object": "chat.completion",
        "created": completion.created,
        "model": completion.model,
        "provider": completion.provider,
        "container": completion.container_label,
        "choices": _choices(completion.output),
        "usage": _usage_json(completion.usage) if completion.usage_source != "none" else None,
        "model_id": completion.model_id,
        "spend": None if spend is None else spend / 1e9,
        "tags": completion.tags,
        "metadata": None if completion.metadata is None else msgspec.Raw(completion.metadata),
        "trace": completion.trace,
        "status": completion.status,
        "usage_source": completion.usage_source,
    }
    if completion.error_reason:
        record["error"] = {
            "code": code_of(completion.error_reason) or None,
            "message": completion.error_message,
        }
    if completion.replay_of:
        record["replay_of"] = completion.replay_of
    route = readable_route(given.route)
    if route is not None and route.headers:
        record["headers"] = route.headers
    if route is not None and route.added is not None:
        record["container_added"] = route.added
    unreadable = [*completion.unreadable]
    if given.body is not None and readable_input(given.body) is None:
        unreadable.append("input")
    if unreadable:
        record["unreadable"] = unreadable
    return record


def _choices(output: bytes | None) -> Any:
    """Return an answer as it was given: where it has `reasoning`, with the second name of that as well."""
    if output is None or b'"reasoning"' not in output:
        return msgspec.Raw(output or b"[]")
    choices = _decode_choices(output)
    for choice in choices:
        message = choice["message"]
        if message.get("reasoning") is not None:
            message["reasoning_content"] = message["reasoning"]
    return choices


def _usage_json(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def fine_tuning_line(completion: StoredCompletion, body: bytes | None) -> bytes | None:
    """Return a line of OpenAI's form for training; None for an incomplete answer."""
    body = readable_input(body)
    if completion.status not in ("completed", "registered") or not completion.output or not body:
        return None
    choice = next(iter(_decode_choices(completion.output)), None)
    if choice is None or choice.get("finish_reason") in ("error", "content_filter"):
        return None
    request = _decode_input(body)
    messages = [_training_message(message) for message in (*request["messages"], choice["message"])]
    line: JsonObject = {"messages": messages}
    line.update({key: request[key] for key in _SHARED if request.get(key) is not None})
    return _encode(line)


def _training_message(message: JsonObject) -> JsonObject:
    """Return a message with the keys that training knows."""
    kept: dict[str, Any] = {
        key: message[key] for key in _MESSAGE_KEYS if message.get(key) not in (None, [])
    }
    if "tool_calls" in kept:
        kept["tool_calls"] = [
            {"id": call.get("id"), "type": "function", "function": call.get("function")}
            for call in kept["tool_calls"]
        ]
    elif "content" not in kept:
        kept["content"] = ""
    return kept
