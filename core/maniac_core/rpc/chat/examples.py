"""Conversion of registrations and exports: between the contract's streams and the services."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from maniac_gateway.v1 import chat_pb2

from maniac_core.domain.errors import GatewayError, Reason, Violation
from maniac_core.domain.examples import Example
from maniac_core.rpc.chat.answer import usage_to_proto
from maniac_core.services.capture.capture import Call
from maniac_core.services.history.export import Exporter
from maniac_core.services.history.registration import Registrar, Registration

_CHUNK_BYTES = 128 * 1024
_DRAIN_S = 10.0


async def register(
    registrar: Registrar,
    call: Call,
    requests: AsyncIterator[chat_pb2.RegisterChatCompletionsRequest],
) -> chat_pb2.RegisterChatCompletionsResponse:
    """Take a registration's messages up to its end.

    Raises:
        GatewayError: VALIDATION_ERROR for messages out of order, or what the registrar says.
    """
    try:
        return _response(await _registered(registrar, call, requests))
    except GatewayError:
        # A caller whose message cannot be sent any more may not see why, so it is let finish first.
        await _drain(requests)
        raise


async def _registered(
    registrar: Registrar,
    call: Call,
    requests: AsyncIterator[chat_pb2.RegisterChatCompletionsRequest],
) -> Registration:
    registration: Registration | None = None
    async for request in requests:
        is_container = request.WhichOneof("payload") == "container"
        if registration is None:
            if not is_container:
                raise _out_of_order("must come first")
            registration = await registrar.open(call, request.container)
        elif is_container:
            raise _out_of_order("must come once")
        else:
            await registration.add([_example(item) for item in request.items.items])
    if registration is None:
        raise _out_of_order("is required")
    return registration


async def _drain(requests: AsyncIterator[chat_pb2.RegisterChatCompletionsRequest]) -> None:
    """Throw away what still comes, while it comes."""
    with contextlib.suppress(TimeoutError):
        is_over = False
        while not is_over:
            async with asyncio.timeout(_DRAIN_S):
                is_over = await anext(requests, None) is None


def _example(item: chat_pb2.RegisterItem) -> Example:
    return Example(
        index=item.index,
        input=item.input_json,
        output=item.output_json or None,
        tags=tuple(item.tags),
        metadata=item.metadata_json or None,
    )


def _response(registration: Registration) -> chat_pb2.RegisterChatCompletionsResponse:
    result = registration.result
    return chat_pb2.RegisterChatCompletionsResponse(
        container=registration.container,
        received=result.received,
        inserted=result.inserted,
        skipped=result.skipped,
        failed=result.failed,
        usage=usage_to_proto(result.usage),
        errors=[
            chat_pb2.RegisterError(
                index=error.index, code=error.code, message=error.message, param=error.param
            )
            for error in result.errors
        ],
    )


def _out_of_order(problem: str) -> GatewayError:
    return GatewayError(
        Reason.ERROR_REASON_VALIDATION_ERROR,
        f"container {problem}.",
        param="container",
        violations=(Violation(("body", "container"), problem, "missing"),),
    )


async def export(
    exporter: Exporter, call: Call, request: chat_pb2.ExportChatCompletionsRequest
) -> AsyncGenerator[chat_pb2.ExportChatCompletionsResponse, None]:
    """Yield the file in pieces."""
    wanted = request.filter
    lines = exporter.lines(
        call.caller,
        "fine_tuning" if request.format == chat_pb2.EXPORT_FORMAT_FINE_TUNING else "full",
        model=wanted.model,
        container=wanted.container,
        metadata_json=wanted.metadata_json,
    )
    held = bytearray()
    try:
        async for line in lines:
            held += line
            while len(held) >= _CHUNK_BYTES:
                yield chat_pb2.ExportChatCompletionsResponse(chunk=bytes(held[:_CHUNK_BYTES]))
                del held[:_CHUNK_BYTES]
        if held:
            yield chat_pb2.ExportChatCompletionsResponse(chunk=bytes(held))
    finally:
        await lines.aclose()
