"""Retries on one upstream: which failures, how often, and after what pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import openai
import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, body, events, in_turn, status

Ask = Callable[..., Asked]


async def break_off(exchange: Exchange) -> None:
    # Not at once and before the head: a kept-alive connection that is found closed is replaced without being an attempt.
    await exchange.send(b"HTTP/1.1 2")
    exchange.reset()


async def break_off_late(exchange: Exchange) -> None:
    await asyncio.sleep(0.05)
    exchange.reset()


PASSING: dict[str, Handler] = {
    "reset": break_off,
    "late reset": break_off_late,
    "408": status(408),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "529": status(529),
    "empty 200": body(b""),
    "HTML 200": body(b"<html>", "text/html"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handler", [pytest.param(h, id=name) for name, h in PASSING.items()])
def test_a_failure_that_may_pass_is_tried_again(
    asked: Ask, providers: Providers, ledger: Ledger, handler: Handler, *, stream: bool
) -> None:
    """The second try answers; the record holds both, and the pause had jitter and was short."""
    providers.handlers["again"] = in_turn(handler, providers.good)

    told = asked("again/m", stream=stream)

    assert (told.error, told.text) == (None, "Hello!")
    assert 0.125 <= told.elapsed_s < 10
    record = ledger.record(told.request_id)
    assert [outcome for _, outcome in trail(record)][-1] == "ok"
    assert len(record["attempts"]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_sent_twice_behind_the_back_of_max_retries(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """A kept-alive connection that breaks after a while is a failed attempt: with `max_retries = 0` the only one."""
    assert asked("main/m", stream=stream).text == "Hello!"
    before = len(providers.requests("main"))
    providers.handlers["main"] = break_off_late

    told = asked("main/m", stream=stream)

    assert (told.status, told.error.code) == (502, "upstream_error")
    assert len(providers.requests("main")) == before + 1
    assert trail(ledger.record(told.request_id)) == [("main", "failed")]


@pytest.mark.parametrize("stream", [False, True])
def test_500s_then_success(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """Two failures use up the two further tries, and the third succeeds."""
    providers.handlers["again"] = in_turn(status(500), status(502), providers.good)

    told = asked("again/m", stream=stream)

    assert told.text == "Hello!"
    record = ledger.record(told.request_id)
    assert trail(record) == [("again", "failed"), ("again", "failed"), ("again", "ok")]
    assert [attempt["http_status"] for attempt in record["attempts"]] == [500, 502, 200]
    # Each pause is longer than the one before: at least 0.125 s, then at least 0.25 s.
    assert 0.375 <= told.elapsed_s < 10


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_that_stays_ends_after_the_configured_tries(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """`max_retries = 2` makes three attempts, all of them in the record."""
    providers.handlers["again"] = status(500, "Still broken.")

    told = asked("again/m", stream=stream)

    assert isinstance(told.error, openai.InternalServerError)
    assert "Still broken." in told.error.body["message"]
    assert trail(ledger.record(told.request_id)) == [("again", "failed")] * 3


FINAL: dict[str, Handler] = {
    "400": status(400),
    "401": status(401),
    "402": status(402),
    "404": status(404),
    "501": status(501),
    "quota": status(429, code="insufficient_quota"),
    "a pause that is too long": status(429, headers={"retry_after": "11"}),
}


@pytest.mark.parametrize("handler", [pytest.param(h, id=name) for name, h in FINAL.items()])
def test_a_failure_that_will_not_pass_is_not_tried_again(
    asked: Ask, providers: Providers, handler: Handler
) -> None:
    """Neither a refusal nor a used-up account gets better by asking again."""
    providers.handlers["again"] = handler

    told = asked("again/m", stream=True)

    assert told.error is not None
    assert len(providers.requests("again")) == 1


DATES = {"retry_after": "Wed, 21 Oct 2015 07:28:01 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"retry_after": "1"}, 1.0),
        (DATES, 1.0),
        ({"retry_after_ms": "700"}, 0.7),
        ({"retry_after_ms": "600", "retry_after": "5"}, 0.6),
    ],
    ids=["seconds", "date", "milliseconds", "milliseconds win"],
)
def test_retry_after_is_honoured(
    asked: Ask, providers: Providers, headers: dict[str, str], pause_s: float
) -> None:
    """The next try comes when the provider wanted it, in seconds, as a date and in milliseconds."""
    providers.handlers["again"] = in_turn(status(429, headers=headers), providers.good)

    told = asked("again/m", stream=True)

    assert told.text == "Hello!"
    assert pause_s <= told.elapsed_s < pause_s + 3


def test_another_candidate_is_not_kept_waiting(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A pause above 2 s is not made while someone else could answer."""
    providers.handlers["again"] = status(429, headers={"retry_after": "3"})

    told = asked("again/m", stream=True, extra_body={"models": ["spare/m"]})

    assert told.provider == "spare"
    assert told.elapsed_s < 3
    assert trail(ledger.record(told.request_id)) == [("again", "failed"), ("spare", "ok")]


def test_a_stream_that_fails_before_content_is_tried_again(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """A stream that ended without a word is like a failed request."""
    providers.handlers["again"] = in_turn(events(), providers.good)

    told = asked("again/m", stream=True)

    assert told.text == "Hello!"
    assert trail(ledger.record(told.request_id)) == [("again", "failed"), ("again", "ok")]


def test_a_refused_connection_is_tried_again(asked: Ask, ledger: Ledger) -> None:
    """A provider that is restarting gets its second chance."""
    told = asked("unreachable_again/m", stream=True)

    assert told.status == 502
    assert trail(ledger.record(told.request_id)) == [("unreachable_again", "failed")] * 2
