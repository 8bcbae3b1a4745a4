"""Attempts: retries on one upstream, and fallback to the next.

Everything here happens before the first content reaches the caller; afterwards nothing is tried again, so that two
answers are never spliced.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from maniac_core.config.known import KNOWN_PROVIDERS
from maniac_core.config.provider import variables_of
from maniac_core.domain.completions import Outcome
from maniac_core.domain.errors import GatewayError, Reason, let_go
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.upstream.upstream import Upstream
from maniac_core.services.capture.attempt_log import Trail
from maniac_core.services.chat.breakers import Permit, ProviderBreakers
from maniac_core.services.routing.planner import Step

_T = TypeVar("_T")
Perform = Callable[[Upstream, Step, float | None], Awaitable[_T]]
"""One attempt: takes the monotonic deadline of the request, raises UpstreamFailure or GatewayError."""

_BACKOFF_S = 0.25
_LONGEST_BACKOFF_S = 4.0
# Longest Retry-After that is waited for. Beyond it the provider is abandoned and the value is passed to the caller.
_LONGEST_WAIT_S = 10.0
# The same while another candidate is left, which would answer sooner.
_LONGEST_WAIT_WITH_OTHERS_S = 2.0
_LONGEST_RETRY_AFTER_S = 60
# Timers may end a little early.
_DEADLINE_SLACK_S = 0.05
_UNHEALTHY = frozenset(
    {
        Reason.ERROR_REASON_UPSTREAM_ERROR,
        Reason.ERROR_REASON_UPSTREAM_TIMEOUT,
        Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
    }
)


class _SkippedError(Exception):
    """A step was not called."""

    def __init__(self, failure: UpstreamFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Runner:
    """Tries the steps of a plan in order."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self.upstreams = upstreams
        """By the name of the provider."""
        self.breakers = {
            name: ProviderBreakers(name)
            for name, upstream in upstreams.items()
            if upstream.config.breaker
        }
        """Those of each provider that has any."""

    async def run(
        self, steps: list[Step], trail: Trail, deadline: float | None, perform: Perform[_T]
    ) -> _T:
        """Return the result of the first step that succeeds; its attempt is still open in the trail.

        `deadline` is monotonic seconds.

        Raises:
            GatewayError: every step failed. The error is that of the last one that was called; if none was, one that
                says why.
        """
        last: UpstreamFailure | None = None
        skipped: UpstreamFailure | None = None
        too_small: Step | None = None
        unreachable: set[str] = set()
        for position, step in enumerate(steps):
            if too_small is not None and not _is_larger(step, too_small):
                continue
            if last is not None and deadline is not None and time.monotonic() >= deadline:
                break
            is_last = position == len(steps) - 1
            try:
                return await self._try(step, trail, deadline, perform, unreachable, is_last=is_last)
            except _SkippedError as skip:
                # Of several reasons one that passes is worth more to the caller than one that stays.
                if skipped is None or skip.failure.retry_after_s is not None:
                    skipped = skip.failure
            except UpstreamFailure as failure:
                let_go(failure)
                last = failure
                if failure.reason == Reason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED:
                    too_small = step
                elif not failure.fall_back:
                    break
            except GatewayError as error:
                # The dialect cannot carry the request. That is the caller's affair only if nobody was asked before.
                if last is None and skipped is None:
                    trail.abandon()
                    raise
                trail.skip(step, error)
        failed = last or skipped
        assert failed is not None, "a plan has a step"
        raise gateway_error(failed)

    async def _try(
        self,
        step: Step,
        trail: Trail,
        deadline: float | None,
        perform: Perform[_T],
        unreachable: set[str],
        *,
        is_last: bool,
    ) -> _T:
        """Try one step. `unreachable`: the providers that this request has found to be so."""
        if step.unfit is not None:
            raise self._skip(step, trail, _unfit(step, step.unfit))
        upstream = self.upstreams.get(step.candidate.provider)
        if upstream is None or upstream.needs_key:
            raise self._skip(step, trail, _key_missing(step.candidate.provider, upstream))
        breakers = self.breakers.get(upstream.name)
        permit: Permit | None = None
        tries = 0
        other_keys = upstream.key_count - 1
        last: UpstreamFailure | None = None
        while True:
            if breakers is not None:
                permit = breakers.enter(step.candidate.model)
                if permit is None:
                    raise last or self._skip(step, trail, _paused(breakers, step))
            trail.begin(step)
            try:
                result = await perform(upstream, step, deadline)
            except UpstreamFailure as failure:
                last = failure
                if permit is not None:
                    _report(permit, failure, deadline, unreachable, upstream.name)
                trail.end(_outcome_of(failure), failure)
                if failure.other_api:
                    continue
                if failure.other_key and other_keys > 0:
                    other_keys -= 1
                    continue
                longest_s = _LONGEST_WAIT_S if is_last else _LONGEST_WAIT_WITH_OTHERS_S
                wait_s = _pause(failure, tries, longest_s, deadline)
                if wait_s is None or tries >= upstream.config.max_retries:
                    raise
                tries += 1
                await asyncio.sleep(wait_s)
                trail.waited(wait_s)
            except BaseException as error:
                # Cancelled, or the dialect refused to encode, or no budget covers a further try.
                if permit is not None:
                    permit.abandoned()
                if last is not None and isinstance(error, GatewayError):
                    trail.skip(step, error)
                    raise last from error
                raise
            else:
                if permit is not None:
                    permit.succeeded()
                return result

    def _skip(self, step: Step, trail: Trail, failure: UpstreamFailure) -> _SkippedError:
        trail.skip(step, failure)
        return _SkippedError(failure)


def _report(
    permit: Permit,
    failure: UpstreamFailure,
    deadline: float | None,
    unreachable: set[str],
    provider: str,
) -> None:
    """Tell the breakers. A failure that no retry cures (no credit, a wrong address) does not count as an outage."""
    is_timeout = _outcome_of(failure) == "timeout"
    if is_timeout and deadline is not None and time.monotonic() > deadline - _DEADLINE_SLACK_S:
        # The caller was in a hurry, which says nothing of the provider.
        permit.abandoned()
    elif failure.is_unreachable:
        permit.unreachable(is_repeat=provider in unreachable)
        unreachable.add(provider)
    elif failure.reason in _UNHEALTHY and (failure.retry or is_timeout):
        permit.failed()
    else:
        permit.succeeded()


def _pause(
    failure: UpstreamFailure, tries: int, longest_s: float, deadline: float | None
) -> float | None:
    """Return the seconds to wait before the next try on the same upstream, or None for no further try."""
    if not failure.retry:
        return None
    ceiling = min(_BACKOFF_S * 2**tries, _LONGEST_BACKOFF_S)
    # Jitter, so that callers who failed together do not come back together.
    wait_s = random.uniform(ceiling / 2, ceiling)  # noqa: S311
    if failure.retry_after_s is not None:
        if failure.retry_after_s > longest_s:
            return None
        wait_s = failure.retry_after_s + wait_s / 2
    if deadline is not None and time.monotonic() + wait_s >= deadline:
        return None
    return wait_s


def gateway_error(failure: UpstreamFailure) -> GatewayError:
    """Return the error for the caller after a provider's failure."""
    retry_after_s = None
    if failure.retry_after_s is not None:
        # Clients sleep 60 s at most, and some accept whole seconds only.
        retry_after_s = min(_LONGEST_RETRY_AFTER_S, max(1, -int(-failure.retry_after_s // 1)))
    return GatewayError(
        failure.reason, failure.message, param=failure.param, retry_after_s=retry_after_s
    )


def _is_larger(step: Step, too_small: Step) -> bool:
    """A prompt that was too long is worth sending only to a model that is known to take more."""
    return (
        too_small.context_window is not None
        and step.context_window is not None
        and step.context_window > too_small.context_window
    )


def _outcome_of(failure: UpstreamFailure) -> Outcome:
    return "timeout" if failure.reason == Reason.ERROR_REASON_UPSTREAM_TIMEOUT else "failed"


def _unfit(step: Step, field: str) -> UpstreamFailure:
    return UpstreamFailure(
        Reason.ERROR_REASON_INVALID_VALUE,
        f"{step.candidate.slug} cannot serve {field}: only a provider that speaks the API of the request can.",
        fall_back=True,
        param=field,
    )


def _key_missing(provider: str, upstream: Upstream | None) -> UpstreamFailure:
    if upstream is not None:
        what, setting = "No API key is configured for", variables_of(upstream.config)
    else:
        row = KNOWN_PROVIDERS[provider]
        what = "No API key is configured for" if row.needs_key else "The gateway does not serve"
        setting = row.setting
        if row.extra:
            setting += f" and run {row.install}"
    return UpstreamFailure(
        Reason.ERROR_REASON_PROVIDER_KEY_MISSING,
        f"{what} the provider {provider!r}: set {setting} where the gateway runs.",
        fall_back=True,
    )


def _paused(breakers: ProviderBreakers, step: Step) -> UpstreamFailure:
    if breakers.is_reachable():
        what = f"{step.candidate.slug} keeps failing"
    else:
        what = f"{breakers.provider} cannot be reached"
    return UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_OVERLOADED,
        f"{what} and is not called for the moment.",
        fall_back=True,
        retry_after_s=max(1.0, breakers.retry_after_s(step.candidate.model)),
    )
