"""The gate every call passes: request id, authentication, rate limit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from maniac_core.domain.errors import GatewayError, Reason
from maniac_core.domain.ids import request_id
from maniac_core.domain.scopes import ALL_SCOPES, Scope
from maniac_core.rpc.boundary.edges import CLIENT_ADDRESS, EdgeCredential, is_local, peer_address
from maniac_core.rpc.boundary.heads import Context, rate_metadata
from maniac_core.services.access.authenticator import Authenticator
from maniac_core.services.capture.capture import Call
from maniac_core.services.limits.rate_limiter import RateLimiter, RateState, rate_error
from maniac_core.services.limits.refusals import Refusals

_FORWARDED = ("traceparent", "anthropic-beta")


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

    def is_edge(self, metadata: Mapping[str, Any], *, is_local: bool) -> bool:
        """Whether a caller has the credential of an edge. `is_local`: it comes by the Unix socket."""
        return self._edges.is_edge(metadata, is_local=is_local)

    async def admit(self, context: Context, *, counts: bool = True) -> Call:
        """Authenticate and count the caller of an RPC, and announce the window in the initial metadata.

        Without `counts` a caller with a key needs room in its window, and takes none.

        Raises:
            GatewayError: of authentication or of the rate limit.
        """
        metadata = dict(context.invocation_metadata() or ())
        remaining_s = context.time_remaining()
        claimed = metadata.get(CLIENT_ADDRESS)
        is_edge = claimed is not None and self.is_edge(metadata, is_local=is_local(context))
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
