"""Decorators of servicer methods: admit the caller, announce the answer's head, and map what fails.

A method takes the admitted call and returns its answer, or yields its messages:

    @unary
    async def GetModel(self, request: GetModelRequest, call: Call) -> GetModelResponse: ...
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

import grpc

from maniac_core.domain.errors import GatewayError, let_go
from maniac_core.rpc.boundary.admission import Gate
from maniac_core.rpc.boundary.errors import abort, unexpected
from maniac_core.rpc.boundary.heads import Context, head_metadata
from maniac_core.rpc.boundary.messages import readable
from maniac_core.services.capture.capture import Call


class Servicer(Protocol):
    """An implementation of one service of the contract."""

    _gate: Gate


_S = TypeVar("_S", bound=Servicer)
_Q = TypeVar("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")


def unary(
    handler: Callable[[_S, _Q, Call], Awaitable[_R]],
) -> Callable[[_S, _Q, Context], Awaitable[_R]]:
    """Make a unary method of one that takes an admitted call and returns its answer."""

    @functools.wraps(handler)
    async def admitted(self: _S, request: _Q, context: Context) -> _R:
        call = await self._gate.admit(context)
        answer = await handler(self, request, call)
        await context.send_initial_metadata(head_metadata(call))
        return answer

    return with_status(admitted)


def streaming(
    handler: Callable[[_S, _Q, Call], AsyncGenerator[_R, None]],
) -> Callable[[_S, _Q, Context], AsyncGenerator[_R, None]]:
    """Make a server-streaming method of one that takes an admitted call and yields its messages.

    The head is announced with the first of them, so that a failure before it is the whole answer.
    """

    async def admitted(self: _S, request: _Q, context: Context) -> AsyncGenerator[_R, None]:
        call = await self._gate.admit(context)
        has_begun = False
        async with contextlib.aclosing(handler(self, request, call)) as messages:
            async for message in messages:
                if not has_begun:
                    has_begun = True
                    await context.send_initial_metadata(head_metadata(call))
                yield message
        if not has_begun:
            await context.send_initial_metadata(head_metadata(call))

    @functools.wraps(handler)
    async def wrapped(self: _S, request: _Q, context: Context) -> AsyncGenerator[_R, None]:
        try:
            messages = admitted(self, readable(request), context)
        except GatewayError as error:
            await abort(context, error)
        # As above.
        del request
        failure: GatewayError | None = None
        try:
            async for message in messages:
                yield message
        except GatewayError as error:
            failure = error
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: logged and returned as INTERNAL
            failure = unexpected(error)
        finally:
            # A cancelled call must not leave its upstream to the garbage collector.
            await messages.aclose()
        if failure is not None:
            let_go(failure)
            await abort(context, failure)

    return wrapped


def with_status(
    handler: Callable[[_T, _Q, Context], Awaitable[_R]],
) -> Callable[[_T, _Q, Context], Awaitable[_R]]:
    """Let the errors of a method leave as google.rpc.Status; it admits its caller and announces its head itself."""

    @functools.wraps(handler)
    async def wrapped(self: _T, request: _Q, context: Context) -> _R:
        try:
            return await handler(self, readable(request), context)
        except GatewayError as error:
            failure = error
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: logged and returned as INTERNAL
            failure = unexpected(error)
        let_go(failure)
        # grpc keeps the error that ends a call in a cycle with this frame, and the request may be large.
        del request
        return await abort(context, failure)

    return wrapped
