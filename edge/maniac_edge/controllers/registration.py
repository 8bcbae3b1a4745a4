"""POST /chat/completions/register: from the client's body to the core's stream, a few items at a time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import msgspec
from litestar import Request, Response
from maniac_gateway.v1 import chat_pb2

from maniac_edge.config import EdgeConfig
from maniac_edge.context import RequestContext
from maniac_edge.convert.registration import MAX_ERRORS, item_from_json, response_to_json
from maniac_edge.core.client import CoreClient, finish, take_headers
from maniac_edge.errors import EdgeError
from maniac_edge.http.client_connection import body_pieces
from maniac_edge.http.operation import operation
from maniac_edge.http.responses import context_of, json_response
from maniac_edge.requests.bodies import BodyReader
from maniac_edge.requests.item_stream import ItemStream
from maniac_edge.schemas import registration as schema

_BATCH_BYTES = 256 * 1024
_BATCH_ITEMS = 500
_BREATH = 32
"""Items that are taken in one go, some hundred microseconds: other requests wait meanwhile."""


@operation(
    "POST",
    "/chat/completions/register",
    tag="Chat",
    body=schema.RegisterRequest,
    response=schema.RegisterResponse,
    response_description="What became of the items.",
    errors=(400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503),
)
async def register_chat_completions(
    request: Request[Any, Any, Any], core: CoreClient, config: EdgeConfig, bodies: BodyReader
) -> Response[bytes]:
    """Register examples that were completed elsewhere.

    Items are registered while the body arrives. When the object around them turns out to be wrong after that, the
    error's `details.summary` says what was registered.
    """
    context = context_of(request)
    upload = _Upload(core, context, config.file_timeout_s)
    try:
        await upload.open()
        await _relay(request, upload, config, bodies)
        return json_response(await upload.outcome())
    except EdgeError as err:
        # The core has counted the call already.
        err.from_core = True
        raise
    finally:
        upload.close()


async def _relay(
    request: Request[Any, Any, Any], upload: _Upload, config: EdgeConfig, bodies: BodyReader
) -> None:
    """Hand over the items as they arrive.

    Raises:
        EdgeError: what is wrong with the object around the items, with a summary in its details if some of them
            were registered before that was seen; or what the core says.
    """
    items = ItemStream(config.max_body_bytes)
    pieces = body_pieces(request.scope, request.receive, config.max_register_bytes)
    try:
        async for piece in pieces:
            for item in items.feed(piece):
                upload.add(item, await bodies.problem(item) if item is not None else None)
                if upload.received % _BREATH == 0:
                    await asyncio.sleep(0)
                await upload.send_full_batches(items.container)
            # A body that is there already is read without a pause.
            await asyncio.sleep(0)
        items.finish()
        await upload.send_all(items.container)
    except EdgeError as err:
        if upload.has_sent and not err.from_core:
            summary = (await upload.outcome()).summary
            err.details = {"summary": msgspec.to_builtins(summary)}
        raise
    finally:
        await pieces.aclose()


class _Upload:
    """One call of the core. Items that arrive before the container is known are held."""

    def __init__(self, core: CoreClient, context: RequestContext, timeout_s: float) -> None:
        self.received = 0
        self.has_sent = False
        """Whether items went to the core."""
        self._context = context
        self._call = core.chat.RegisterChatCompletions(
            timeout=timeout_s, metadata=core.metadata(context)
        )
        self._is_announced = False
        self._batches: list[chat_pb2.RegisterItems] = []
        self._batch = chat_pb2.RegisterItems()
        self._batch_bytes = 0
        self._failed = 0
        self._failures: list[schema.RegisterError] = []

    async def open(self) -> None:
        """Wait until the core lets the caller send, so that nothing is read for one who may not.

        Raises:
            EdgeError: the core refuses the call.
        """
        metadata = await self._call.initial_metadata()
        if not metadata:
            await self._finish()
        take_headers(self._context, metadata)

    def add(self, text: bytes | None, problem: EdgeError | None) -> None:
        """Put an item into the batch, unless it has a problem; None stands for one above the limit."""
        index = self.received
        self.received += 1
        try:
            if problem is not None:
                raise problem
            item = item_from_json(text, index)
        except EdgeError as err:
            self._failed += 1
            if len(self._failures) < MAX_ERRORS:
                self._failures.append(
                    schema.RegisterError(index=index, code=err.code, message=err.message)
                )
            return
        self._batch.items.append(item)
        self._batch_bytes += len(item.input_json) + len(item.output_json)
        if self._batch_bytes >= _BATCH_BYTES or len(self._batch.items) >= _BATCH_ITEMS:
            self._end_batch()

    async def send_full_batches(self, container: str | None) -> None:
        """Send what is complete, once the container is known. Waits while the core does not keep up.

        Raises:
            EdgeError: the core broke off.
        """
        if container is None or not self._batches:
            return
        await self._announce(container)
        batches, self._batches = self._batches, []
        batches.reverse()
        self.has_sent = True
        while batches:
            await self._write(chat_pb2.RegisterChatCompletionsRequest(items=batches.pop()))

    async def send_all(self, container: str | None) -> None:
        """Send the container and what is left.

        Raises:
            EdgeError: the core broke off.
        """
        assert container is not None
        await self._announce(container)
        self._end_batch()
        await self.send_full_batches(container)

    async def outcome(self) -> schema.RegisterResponse:
        """End the call and return what became of the items.

        Raises:
            EdgeError: the call failed.
        """
        # A call that has ended by itself has a status that says why.
        with contextlib.suppress(asyncio.InvalidStateError):
            await self._call.done_writing()
        return response_to_json(await self._finish(), self._failures, self._failed)

    def close(self) -> None:
        """End the call if it still runs."""
        self._call.cancel()

    async def _announce(self, container: str) -> None:
        if not self._is_announced:
            self._is_announced = True
            await self._write(chat_pb2.RegisterChatCompletionsRequest(container=container))

    def _end_batch(self) -> None:
        if self._batch.items:
            self._batches.append(self._batch)
            self._batch, self._batch_bytes = chat_pb2.RegisterItems(), 0

    async def _write(self, message: chat_pb2.RegisterChatCompletionsRequest) -> None:
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as err:
            # The core lets its caller finish before it ends a call, so the connection broke.
            raise EdgeError(
                "DEPENDENCY_UNAVAILABLE",
                "The gateway's core broke off. Try again.",
                retry_after_s=1,
                from_core=True,
            ) from err

    async def _finish(self) -> chat_pb2.RegisterChatCompletionsResponse:
        response: chat_pb2.RegisterChatCompletionsResponse = await finish(self._call, self._context)
        return response


HANDLERS = (register_chat_completions,)
