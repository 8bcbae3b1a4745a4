"""The gate every RPC passes: request id, authentication, rate limit; and the way back: errors as google.rpc.Status."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import msgspec
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from maniac_core.domain.errors import GatewayError, Reason, let_go
from maniac_core.domain.ids import request_id
from maniac_core.domain.scopes import ALL_SCOPES, Scope
from maniac_core.rpc.boundary.edges import CLIENT_ADDRESS, EdgeCredential, peer_address
from maniac_core.rpc.boundary.messages import readable
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.capture.attempt_log import reason_name
from maniac_core.services.capture.capture import Call
from maniac_core.services.limits.rate_limiter import RateLimiter, RateState, rate_error
from maniac_core.services.limits.refusals import Refusals

_log = logging.getLogger(__name__)
_S = TypeVar("_S")
_Q = TypeVar("_Q")
_R = TypeVar("_R")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Metadata = tuple[tuple[str, str], ...]

_FORWARDED = ("traceparent", "anthropic-beta")
_MAX_MESSAGE = 1000
_STATUS_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Gate:
    """Admits calls."""

    def __init__(
        self,
        authenticator: Authenticator,
        limiter: RateLimiter,
        edges: EdgeCredential,
        refusals: Refusals,
    ) -> None:
        self._refusals = refusals
        self._authenticator = authenticator
        self._limiter = limiter
        self._edges = edges

    async def scopes(self, metadata: Mapping[str, Any]) -> frozenset[Scope] | None:
        """Return what the key of a call may do, counting nothing; None: the call has no good key."""
        authorization = metadata.get("authorization")
        if self._authenticator.is_internal(authorization):
            return ALL_SCOPES
        try:
            return (await self._authenticator.authenticate(authorization)).scopes
        except GatewayError:
            return None

    def is_edge(self, context: Context) -> bool:
        """Whether the caller has the credential of an edge."""
        return self._edges.is_edge(context, dict(context.invocation_metadata() or ()))

    async def admit(self, context: Context, *, counts: bool = True) -> Call:
        """Authenticate and count the caller of an RPC, and announce the window in the initial metadata.

        Without `counts` a caller with a key needs room in its window, and takes none.

        Raises:
            GatewayError: of authentication or of the rate limit.
        """
        metadata = dict(context.invocation_metadata() or ())
        remaining_s = context.time_remaining()
        claimed = metadata.get(CLIENT_ADDRESS)
        is_edge = claimed is not None and self._edges.is_edge(context, metadata)
        return await self.admit_headers(
            metadata,
            address=str(claimed) if is_edge else peer_address(context),
            # Whoever claims to be an edge gives up the internal key, whether or not it is one.
            via_edge=claimed is not None,
            deadline=None if remaining_s is None else time.monotonic() + remaining_s,
            announce=lambda state: context.set_trailing_metadata(rate_metadata(state)),
            counts=counts,
        )

    async def admit_headers(
        self,
        metadata: dict[str, Any],
        *,
        address: str,
        via_edge: bool,
        deadline: float | None,
        announce: Callable[[RateState], None],
        counts: bool = True,
    ) -> Call:
        """Admit a call whose metadata is at hand. `announce` receives the window before any error is raised.

        `address`: of the client; callers without a good key are counted by it.
        """
        authorization = metadata.get("authorization")
        # The internal key is for services that call the core themselves; through an edge it is a key like any other.
        if not via_edge and self._authenticator.is_internal(authorization):
            caller = await self._authenticator.internal_caller(metadata.get("x-maniac-project"))
            rate = None
        else:
            rate, caller = await self._admit_key(authorization, address, announce, counts=counts)
        return Call(
            caller=caller,
            request_id=metadata.get("x-request-id") or request_id(),
            deadline=deadline,
            idempotency_key=metadata.get("idempotency-key") or None,
            headers={key: metadata[key] for key in _FORWARDED if key in metadata},
            rate=rate,
            dropped=[],
        )

    @contextlib.contextmanager
    def counting(self, call: Call) -> Iterator[None]:
        """Count the call as refused if it ends with an error and there is no record of it."""
        try:
            yield
        except GatewayError as error:
            self.refused(call, error)
            raise

    def refused(self, call: Call, error: GatewayError) -> None:
        """A call that was admitted ends with an error; it is counted unless there is a record of it."""
        if not call.is_captured:
            self._refusals.count(call.caller, error.code)

    def refused_by_edge(self, call: Call, code: str) -> None:
        """The edge answers a call that was admitted with an error of that code."""
        if code:
            self._refusals.count(call.caller, code)

    async def _admit_key(
        self,
        authorization: str | None,
        address: str,
        announce: Callable[[RateState], None],
        *,
        counts: bool,
    ) -> tuple[RateState | None, Any]:
        try:
            caller = await self._authenticator.authenticate(authorization)
        except GatewayError as err:
            # Without a key there is no organization to count for.
            state = await self._limiter.hit_address(address)
            if err.reason != Reason.ERROR_REASON_AUTH_UNAVAILABLE:
                _check(state, announce)
            elif state is not None:
                # Its key may be valid, and its organization have room: the error does not ask it to wait.
                announce(state)
            raise
        hit = self._limiter.hit if counts else self._limiter.peek
        try:
            return _check(await hit(caller), announce), caller
        except GatewayError as error:
            self._refusals.count(caller, error.code)
            raise


def _check(state: RateState | None, announce: Callable[[RateState], None]) -> RateState | None:
    if state is not None:
        announce(state)
        if not state.allowed:
            raise rate_error(state)
    return state


def rate_metadata(state: RateState) -> Metadata:
    """Return a window as metadata."""
    return (
        ("x-ratelimit-limit", str(state.limit)),
        ("x-ratelimit-remaining", str(state.remaining)),
        ("x-ratelimit-reset", str(state.reset)),
    )


def head_metadata(call: Call) -> Metadata:
    """Return what an answer's initial metadata says."""
    metadata: Metadata = (("x-request-id", call.request_id),)
    if call.rate is not None:
        metadata += rate_metadata(call.rate)
    if call.dropped:
        metadata += (("x-maniac-dropped-params", ",".join(dict.fromkeys(call.dropped))),)
    if call.first_token_us is not None:
        metadata += (("server-timing", server_timing(call)),)
    return metadata


def server_timing(call: Call) -> str:
    """Return the Server-Timing header of an answer: durations in milliseconds."""
    first_token = call.first_token_us or 0
    upstream = call.upstream_us or first_token - call.queue_us
    parts = {
        "queue": call.queue_us,
        "upstream": upstream,
        "first-token": first_token,
        "gateway": max(0, call.elapsed_us() - upstream),
    }
    return ", ".join(f"{name};dur={value / 1000:.1f}" for name, value in parts.items())


def unary(
    handler: Callable[[_S, _Q, Context], Awaitable[_R]],
) -> Callable[[_S, _Q, Context], Awaitable[_R]]:
    """Wrap a unary servicer method so that its errors leave as google.rpc.Status."""

    @functools.wraps(handler)
    async def wrapped(self: _S, request: _Q, context: Context) -> _R:
        try:
            return await handler(self, readable(request), context)
        except GatewayError as error:
            failure = error
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: logged and returned as INTERNAL
            failure = _internal(error)
        let_go(failure)
        # grpc keeps the error that ends a call in a cycle with this frame, and the request may be large.
        del request
        return await abort(context, failure)

    return wrapped


def streaming(
    handler: Callable[[_S, _Q, Context], AsyncGenerator[_R, None]],
) -> Callable[[_S, _Q, Context], AsyncGenerator[_R, None]]:
    """Wrap a server-streaming servicer method so that its errors leave as google.rpc.Status."""

    @functools.wraps(handler)
    async def wrapped(self: _S, request: _Q, context: Context) -> AsyncGenerator[_R, None]:
        try:
            messages = handler(self, readable(request), context)
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
            failure = _internal(error)
        finally:
            # A cancelled call must not leave its upstream to the garbage collector.
            await messages.aclose()
        if failure is not None:
            let_go(failure)
            await abort(context, failure)

    return wrapped


async def abort(context: Context, error: GatewayError) -> NoReturn:
    """End an RPC with an error: a google.rpc.Status with one ErrorInfo, and the window if there is one."""
    mapping = error.mapping
    # It may quote what the caller sent, and metadata above 8 KiB breaks the connection instead of being delivered.
    message = _shortened(error.message)
    status = status_pb2.Status(code=mapping.grpc_code, message=message)
    info = error_details_pb2.ErrorInfo(reason=reason_name(error.reason), domain="maniac_gateway")
    if error.param is not None:
        info.metadata["param"] = error.param
    if error.details is not None:
        info.metadata["details_json"] = msgspec.json.encode(error.details).decode()
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(
                field=".".join(str(part) for part in violation.loc),
                description=violation.message,
                reason=violation.type,
            )
        status.details.add().Pack(bad)
    if error.retry_after_s is not None:
        status.details.add().Pack(
            error_details_pb2.RetryInfo(retry_delay=Duration(seconds=error.retry_after_s))
        )
    trailing = tuple(context.trailing_metadata() or ())
    await context.abort(
        _STATUS_CODES[mapping.grpc_code],
        message,
        (
            *trailing,
            ("grpc-status-details-bin", status.SerializeToString()),
            # Clients that repeat calls by themselves do so when a core breaks off, not when it has answered.
            ("grpc-retry-pushback-ms", "-1"),
        ),
    )
    raise AssertionError("abort always raises")


def _shortened(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…"


def _internal(error: Exception) -> GatewayError:
    _log.error("a call failed unexpectedly", exc_info=error)
    return GatewayError(
        Reason.ERROR_REASON_INTERNAL_ERROR, "The gateway failed to handle the request."
    )
