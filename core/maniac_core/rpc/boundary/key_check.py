"""KeyCheck: a call without a good key, or whose key may not make it, is refused before its message is read."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.scopes import SCOPES, Scope
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.errors import abort
from maniac_core.rpc.boundary.heads import Context
from maniac_core.rpc.boundary.scopes import insufficient_scope, required_scope
from maniac_core.rpc.health import HealthServicer

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_RELAY = "/maniac_gateway.v1.RelayService/Relay"
_HEALTH = "/grpc.health.v1.Health/"


class KeyCheck(grpc.aio.ServerInterceptor):
    """Stands before every method.

    gRPC reads and parses the message of a unary call before it calls the method, and a small message can be made to
    take a gigabyte. What answers instead is a streaming handler, for which gRPC reads nothing.
    """

    def __init__(self, gate: Gate, health: HealthServicer) -> None:
        self._gate = gate
        self._health = health
        self._out_of_scope: dict[Scope, _Handler] = {
            scope: grpc.stream_stream_rpc_method_handler(
                functools.partial(self._refuse_scope, scope)
            )
            for scope in SCOPES
        }
        self._refusal: _Handler = grpc.stream_stream_rpc_method_handler(self._refuse)
        # A caller without a key gets the state of the whole core, whichever service is named: probes and
        # edges that balance over cores have no key, and their message stays unread.
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        self._keyless: dict[str, _Handler] = {
            _HEALTH + "Check": grpc.stream_stream_rpc_method_handler(
                self._check, response_serializer=serialize
            ),
            _HEALTH + "Watch": grpc.stream_stream_rpc_method_handler(
                self._watch, response_serializer=serialize
            ),
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Choose the handler of a call."""
        method = handler_call_details.method
        if method == _RELAY:
            # It asks for an edge's credential itself: who the caller is, only the call's context knows.
            return await continuation(handler_call_details)
        scopes = await self._gate.scopes(dict(handler_call_details.invocation_metadata or ()))
        if scopes is None:
            return self._keyless.get(method, self._refusal)
        needed = required_scope(method)
        if needed is None or needed in scopes:
            return await continuation(handler_call_details)
        return self._out_of_scope[needed]

    async def _refuse(self, _messages: AsyncIterator[bytes], context: Context) -> NoReturn:
        try:
            await self._gate.admit(context)
        except GatewayError as error:
            await abort(context, error)
        # The key has become good since it was looked at.
        await abort(
            context,
            GatewayError(
                Reason.ERROR_REASON_AUTH_UNAVAILABLE,
                "The key was just changed. Try again.",
                retry_after_s=1,
            ),
        )

    async def _refuse_scope(
        self, scope: Scope, _messages: AsyncIterator[bytes], context: Context
    ) -> NoReturn:
        try:
            await self._gate.admit(context)
            raise insufficient_scope(scope)
        except GatewayError as error:
            await abort(context, error)

    async def _check(self, _messages: AsyncIterator[bytes], context: Context) -> None:
        await context.write(await self._health.Check(health_pb2.HealthCheckRequest(), context))

    async def _watch(self, _messages: AsyncIterator[bytes], context: Context) -> None:
        await self._health.Watch(health_pb2.HealthCheckRequest(), context)
