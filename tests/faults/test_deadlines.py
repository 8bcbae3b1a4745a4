"""The four deadlines, one by one: each is met alone, because the others are far away."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, after, chunk, events, hang, text, then

Ask = Callable[..., Asked]


async def drip(exchange: Exchange) -> None:
    """Content without an end, in time for every deadline but the total."""
    await exchange.begin_stream()
    while not await exchange.is_gone_within(0.05):
        await exchange.event(chunk("drop "))


async def flood(exchange: Exchange) -> None:
    """Nothing but comments."""
    await exchange.begin_stream()
    await flood_on(exchange)


async def flood_on(exchange: Exchange) -> None:
    """Comments without an end, so fast that there is always something to read."""
    try:
        while True:
            await exchange.chunk(b": flood\n\n" * 1000)
    except ConnectionError:
        exchange.close()


DEADLINES: list[tuple[str, float, Handler | None, bool, str]] = [
    ("unconnected", 0.3, None, False, "accepted no connection in time"),
    ("unconnected", 0.3, None, True, "accepted no connection in time"),
    ("first_token", 0.3, hang, True, "sent no content within 0.3 s"),
    (
        "first_token",
        0.3,
        then(events(*text(), end=False), hang),
        True,
        "sent no content within 0.3 s",
    ),
    ("first_token", 0.3, flood, True, "sent no content within 0.3 s"),
    ("idle", 0.3, then(events(*text("Hi"), end=False), flood_on), True, "sent nothing for 0.3 s"),
    ("idle", 0.3, then(events(*text("Hi"), end=False), hang), True, "sent nothing for 0.3 s"),
    ("total", 0.5, hang, False, "did not answer within 0.5 s"),
    ("total", 0.5, drip, True, "did not finish within 0.5 s"),
    ("total", 0.5, flood, True, "did not finish within 0.5 s"),
]


@pytest.mark.parametrize(("provider", "limit_s", "handler", "stream", "message"), DEADLINES)
def test_each_deadline_ends_what_it_bounds(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    *,
    provider: str,
    limit_s: float,
    handler: Handler | None,
    stream: bool,
    message: str,
) -> None:
    """Connect, first token, idle and total: the client is told which, shortly after it has passed."""
    if handler is not None:
        providers.handlers[provider] = handler

    told = asked(f"{provider}/m", stream=stream)

    assert told.error.code == "upstream_timeout"
    assert re.search(message, told.error.body["message"])
    assert limit_s <= told.elapsed_s < limit_s + 10
    record = ledger.record(told.request_id)
    assert record["error_reason"] == "UPSTREAM_TIMEOUT"
    assert trail(record) == [(provider, "truncated" if told.has_begun else "timeout")]


def test_a_slow_answer_within_its_deadlines_is_left_alone(asked: Ask, providers: Providers) -> None:
    """An answer that takes longer than the idle deadline in all, but is never silent for so long, is whole."""

    async def steady(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for _ in range(8):
            await after(0.15, lambda e: e.event(chunk("tick ")))(exchange)
        await exchange.event(chunk(None, finish_reason="stop"))
        await exchange.event("[DONE]")
        await exchange.chunk(b"")

    providers.handlers["steady"] = steady

    told = asked("steady/m", stream=True)

    assert told.error is None
    assert told.text == "tick " * 8
    assert told.elapsed_s > 1


def test_the_explanation_of_an_error_does_not_hold_up_its_status(
    asked: Ask, providers: Providers
) -> None:
    """An error whose body never comes is told within the deadline."""

    async def headless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 X\r\ncontent-length: 100\r\n\r\n")
        await exchange.wait_until_gone()

    providers.handlers["hasty"] = headless

    told = asked("hasty/m", stream=True)

    assert told.status == 502
    assert told.elapsed_s < 10
