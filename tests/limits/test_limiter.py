"""Which limits hold for whom, and what the caller is told of them."""

from __future__ import annotations

import time

import pytest
from maniac_core.config.core import CoreConfig
from maniac_core.domain.callers import Caller
from maniac_core.domain.errors import GatewayError
from maniac_core.services.limits.rate_limiter import (
    MemoryWindows,
    RateLimiter,
    RateState,
    Windows,
    rate_error,
)


def _caller(
    key: int = 1,
    organization: str = "o",
    *,
    rate_limit: int | None = None,
    token_limit: int | None = None,
) -> Caller:
    return Caller(
        key=key,
        project=1,
        organization=1,
        project_id="p",
        organization_id=organization,
        rate_limit=rate_limit,
        token_limit=token_limit,
    )


def _limiter(windows: Windows | None = None, **config: int) -> RateLimiter:
    # A window that does not end within the test.
    settings = {"rate_limit": 0, "rate_window_s": 10**9, **config}
    return RateLimiter(CoreConfig(**settings), windows or MemoryWindows())  # type: ignore[arg-type]


async def _hit(limiter: RateLimiter, caller: Caller) -> RateState:
    state = await limiter.hit(caller)
    assert state is not None
    return state


async def test_keys_of_an_organization_share_its_limit(windows: Windows) -> None:
    """The headers count down over all keys; another organization has its own window."""
    limiter = _limiter(windows, rate_limit=3)
    seen = [await _hit(limiter, _caller(key)) for key in (1, 2, 3, 4)]
    assert [(state.allowed, state.remaining) for state in seen] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert {state.limit for state in seen} == {3}
    assert (await _hit(limiter, _caller(1, "other"))).remaining == 2


async def test_a_keys_own_limit_holds_besides(windows: Windows) -> None:
    """The headers tell of the limit with the least room; what the key may not do costs the organization nothing."""
    limiter = _limiter(windows, rate_limit=10)
    narrow = _caller(1, rate_limit=2)
    seen = [await _hit(limiter, narrow) for _ in range(4)]
    assert [(s.allowed, s.limit, s.remaining) for s in seen] == [
        (True, 2, 1),
        (True, 2, 0),
        (False, 2, 0),
        (False, 2, 0),
    ]
    assert (await _hit(limiter, _caller(2))).remaining == 7


async def test_a_keys_limit_holds_without_one_of_the_organization() -> None:
    """Limits are independent; without any there are no headers."""
    limiter = _limiter()
    assert await limiter.hit(_caller()) is None
    assert await limiter.hit_address("10.0.0.1") is None
    assert (await _hit(limiter, _caller(rate_limit=1))).allowed
    assert not (await _hit(limiter, _caller(rate_limit=1))).allowed


async def test_callers_without_a_key_are_counted_by_address() -> None:
    """Each address has a window of the organization's size."""
    limiter = _limiter(rate_limit=1)
    states = [await limiter.hit_address(one) for one in ("a", "a", "b")]
    assert [state is not None and state.allowed for state in states] == [True, False, True]


async def test_no_address_is_an_organization(windows: Windows) -> None:
    """Whoever names an organization, or what its keys are counted under, as an address takes nothing from it."""
    limiter = _limiter(windows, rate_limit=2, token_limit=10)
    caller = _caller(7, "acme", rate_limit=2)
    for address in ("acme", "organization:acme", "acme}:requests", "organization:acme}:key:7"):
        for _ in range(3):
            await limiter.hit_address(address)
    assert (await _hit(limiter, caller)).remaining == 1
    # Nor is a key of one organization that of another, or their tokens their requests.
    assert await limiter.take_tokens(caller, 10)
    assert (await _hit(limiter, _caller(7, "other", rate_limit=2))).remaining == 1


async def test_an_address_takes_little_room() -> None:
    """A header of any length is counted under its beginning."""
    limiter = _limiter(rate_limit=1)
    states = [await limiter.hit_address("9" * length) for length in (70, 8000)]
    assert [state is not None and state.allowed for state in states] == [True, False]


async def test_the_window_ends_at_a_multiple_of_its_length() -> None:
    """Reset is the same for everybody, and the refusal waits until then in whole seconds."""
    limiter = RateLimiter(CoreConfig(rate_limit=1, rate_window_s=3600), MemoryWindows())
    before = time.time()
    state = await _hit(limiter, _caller())
    assert state.reset % 3600 == 0
    assert 0 < state.reset - before <= 3600 + 10
    error = rate_error(state)
    after = time.time()
    assert error.code == "rate_limit_exceeded"
    assert error.retry_after_s is not None
    assert state.reset - after <= error.retry_after_s <= state.reset - before + 1


async def test_tokens_are_reserved_and_settled(windows: Windows) -> None:
    """What a request did not use is free again at once; what it used beyond its estimate counts as well."""
    limiter = _limiter(windows, token_limit=100)
    first = await limiter.take_tokens(_caller(), 80)
    assert first is not None
    with pytest.raises(GatewayError, match="100 tokens"):
        await limiter.take_tokens(_caller(), 30)
    first.settle(10)
    second = await limiter.take_tokens(_caller(), 90)
    assert second is not None
    second.settle(120)
    with pytest.raises(GatewayError) as caught:
        await limiter.take_tokens(_caller(), 1)
    assert caught.value.code == "rate_limit_exceeded"
    assert (caught.value.retry_after_s or 0) >= 1


async def test_a_request_larger_than_the_limit_fits_into_an_unused_window_only(
    windows: Windows,
) -> None:
    """Otherwise it could never be answered, however often it is tried."""
    limiter = _limiter(windows, token_limit=100)
    assert await limiter.take_tokens(_caller(), 5000)
    with pytest.raises(GatewayError):
        await limiter.take_tokens(_caller(), 1)
    assert await limiter.take_tokens(_caller(2, "other"), 1)
    with pytest.raises(GatewayError):
        await limiter.take_tokens(_caller(2, "other"), 5000)


async def test_a_keys_tokens_are_limited_besides(windows: Windows) -> None:
    """The narrower limit is the one that the error names."""
    limiter = _limiter(windows, token_limit=1000)
    narrow = _caller(token_limit=50)
    assert await limiter.take_tokens(narrow, 50)
    with pytest.raises(GatewayError, match="50 tokens"):
        await limiter.take_tokens(narrow, 1)
    assert await limiter.take_tokens(_caller(2), 950)
    assert limiter.limits_tokens(narrow)
    assert not _limiter().limits_tokens(_caller())
