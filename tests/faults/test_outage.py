"""An outage of the primary under load: callers notice nothing, and the primary is left in peace until it is back.

`MANIAC_OUTAGE_S` sets how long it lasts (2 s unless set; 30 for the real thing).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from asking import Asked, ask
from ledger import Ledger, trail
from providers import Exchange, Providers, events, hang, reset, status, text

Ask = Callable[..., Asked]
OUTAGE_S = float(os.environ.get("MANIAC_OUTAGE_S", "2"))
CALLERS = 6
THRESHOLD = 5
LONGEST_PAUSE_S = 10


def probes_within(seconds: float) -> int:
    """Return how many probes an outage costs: the pauses between them are 1 s, 2 s, 4 s, 8 s, 10 s."""
    probes, at, pause_s = 0, 1.0, 1.0
    while at <= seconds:
        probes += 1
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        at += pause_s
    return probes


@pytest.mark.timeout(180 + 4 * OUTAGE_S)
def test_an_outage_under_load_falls_back_and_costs_few_probes(
    client: openai.OpenAI, providers: Providers, ledger: Ledger
) -> None:
    """Every request is answered; the primary is asked a handful of times, and again once it is back."""
    is_down = threading.Event()
    is_over = threading.Event()

    async def primary(exchange: Exchange) -> None:
        await (reset if is_down.is_set() else providers.good)(exchange)

    def call(number: int) -> list[Asked]:
        answers = []
        while not is_over.is_set():
            stream = (number + len(answers)) % 2 == 0
            answers.append(
                ask(client, "broken/m", stream=stream, extra_body={"models": ["spare/m"]})
            )
        return answers

    providers.handlers["broken"] = primary
    assert ask(client, "broken/m", stream=True).provider == "broken"
    before = len(providers.requests("broken"))
    is_down.set()
    with ThreadPoolExecutor(CALLERS) as pool:
        load = [pool.submit(call, number) for number in range(CALLERS)]
        try:
            is_over.wait(OUTAGE_S)
            during = len(providers.requests("broken")) - before
            is_down.clear()
            _wait_until_back(client)
        finally:
            is_over.set()
        answers = [told for future in load for told in future.result()]

    assert all(told.error is None and told.text == "Hello!" for told in answers)
    assert len(answers) > 20 * OUTAGE_S
    # Until it opens, each caller may be on its way; a kept-alive connection found closed is replaced, once a call.
    assert during <= 2 * (THRESHOLD + CALLERS + probes_within(OUTAGE_S))
    fell_back = [told for told in answers if told.provider == "spare"]
    outcomes = {trail(ledger.record(told.request_id))[0] for told in fell_back[:50]}
    assert outcomes <= {("broken", "failed"), ("broken", "skipped")}
    assert ("broken", "skipped") in outcomes


def _wait_until_back(client: openai.OpenAI) -> None:
    deadline = time.monotonic() + LONGEST_PAUSE_S + 10
    while (
        ask(client, "broken/m", stream=False, extra_body={"models": ["spare/m"]}).provider
        != "broken"
    ):
        assert time.monotonic() < deadline, "it is not called again"
        # The load goes on meanwhile; the next probe is a matter of the gateway's clock.
        time.sleep(0.02)


def test_a_paused_upstream_without_another_candidate_is_a_503_at_once(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """The client learns when to come back, nobody is called, and the pause ends by itself."""
    providers.handlers["shaky"] = status(500)
    opening = [asked("shaky/m", stream=False) for _ in range(2)]
    calls = len(providers.requests("shaky"))

    told = asked("shaky/m", stream=True)

    # The retries of the second request were cut short, because the fifth failure in a row paused the upstream.
    assert calls == THRESHOLD
    assert [told.status for told in opening] == [502, 502]
    assert (told.status, told.error.code) == (503, "upstream_overloaded")
    assert told.error.response.headers["retry-after"] == "1"
    assert len(providers.requests("shaky")) == calls
    record = ledger.record(told.request_id)
    assert (record["status"], trail(record)) == ("rejected", [("shaky", "skipped")])

    providers.handlers["shaky"] = providers.good
    deadline = time.monotonic() + 60
    while (told := asked("shaky/m", stream=True)).error is not None:
        assert told.status == 503
        assert time.monotonic() < deadline
        time.sleep(0.02)  # The pause is a matter of the gateway's clock.
    assert told.text == "Hello!"


def test_a_broken_model_pauses_nothing_but_itself(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """Its retries included: all requests to a healthy model are answered, and do not keep the dead one from being paused."""

    async def by_model(exchange: Exchange) -> None:
        is_broken = exchange.json["model"] == "bad"
        await (status(500) if is_broken else providers.good)(exchange)

    providers.handlers["shaky"] = by_model
    told, healthy = [], []
    for _ in range(4):
        told.append(asked("shaky/bad", stream=False))
        healthy += [asked("shaky/good", stream=stream) for stream in (False, True)]

    assert [answer.error for answer in healthy] == [None] * 8
    assert told[-1].status == 503
    assert "shaky/bad keeps failing" in told[-1].error.body["message"]
    calls = [exchange.json["model"] for exchange in providers.requests("shaky")]
    # At most one probe, if the machine is so slow that the pause of a second ended.
    assert THRESHOLD <= calls.count("bad") <= THRESHOLD + 1
    record = ledger.record(told[-1].request_id)
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["skipped"]
    assert "shaky/bad" in record["attempts"][0]["error_message"]


def test_a_provider_without_a_connection_is_paused_for_all_its_models(
    asked: Ask, ledger: Ledger
) -> None:
    """The tries of one request count once: it is the fifth request that pauses it, whichever models they asked for."""
    opening = [asked(f"gone/m{number}", stream=False) for number in range(THRESHOLD)]

    told = asked("gone/other", stream=True)

    tries = [len(ledger.record(each.request_id)["attempts"]) for each in opening]
    assert tries == [3, 3, 3, 3, 1]
    assert (told.status, told.error.code) == (503, "upstream_overloaded")
    assert "gone cannot be reached" in told.error.body["message"]
    assert trail(ledger.record(told.request_id)) == [("gone", "skipped")]


def test_refusals_and_limits_do_not_pause_an_upstream(asked: Ask, providers: Providers) -> None:
    """A provider that answers, if only to refuse, is up: it goes on being called."""
    for code, headers in ((400, {}), (401, {}), (402, {}), (404, {}), (429, {"retry_after": "60"})):
        providers.handlers["broken"] = status(code, headers=headers)
        for _ in range(THRESHOLD + 1):
            assert asked("broken/m", stream=False).status != 503

    assert len(providers.requests("broken")) == 5 * (THRESHOLD + 1)


def test_breaks_after_content_do_not_pause_an_upstream(asked: Ask, providers: Providers) -> None:
    """Asking someone else would not have helped, and the upstream does answer."""
    providers.handlers["broken"] = events(*text("Half"))
    for _ in range(THRESHOLD + 1):
        assert asked("broken/m", stream=True).has_begun


def test_without_a_breaker_an_upstream_goes_on_being_called(
    asked: Ask, providers: Providers
) -> None:
    """`breaker = false` means that every request finds out for itself."""
    providers.handlers["main"] = status(500)
    for _ in range(THRESHOLD + 1):
        asked("main/m", stream=True)

    assert len(providers.requests("main")) == THRESHOLD + 1


def test_a_probe_lets_nobody_else_through(
    client: openai.OpenAI, asked: Ask, providers: Providers
) -> None:
    """While one request finds out whether the upstream is back, the others go elsewhere."""
    providers.handlers["probed"] = status(500)
    for _ in range(THRESHOLD):
        asked("probed/m", stream=False)
    providers.handlers["probed"] = hang
    before = len(providers.requests("probed"))
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(1) as pool:
        probe = None
        while len(providers.requests("probed")) == before:
            if probe is None or probe.done():
                probe = pool.submit(ask, client, "probed/m", stream=True)
            assert time.monotonic() < deadline
            time.sleep(0.02)  # The pause is a matter of the gateway's clock.

        others = [
            asked("probed/m", stream=True, extra_body={"models": ["spare/m"]}) for _ in range(5)
        ]

        assert [told.provider for told in others] == ["spare"] * 5
        assert len(providers.requests("probed")) == before + 1
        assert probe is not None
        assert probe.result().error.code == "upstream_timeout"
