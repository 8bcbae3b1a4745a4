"""Providers that send what costs far more to read than to send: each answer ends early with a clear error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, body, events, text, then

Ask = Callable[..., Asked]


def pour(piece: bytes, count: int | None = None) -> Handler:
    """Go on with a stream: so many copies, or as many as the gateway takes."""

    async def handle(exchange: Exchange) -> None:
        per_chunk = 65_536 // len(piece)
        left = count or 10**12
        try:
            while left > 0:
                await exchange.chunk(piece * min(per_chunk, left))
                left -= per_chunk
            await exchange.chunk(b"\n\n")
            await exchange.wait_until_gone()
        except ConnectionError:
            exchange.close()

    return handle


begun = events(*text("Hi"), end=False)
FLOODS = {
    "events of 8 bytes": (pour(b"data:1\n\n"), "events without content"),
    "empty objects": (pour(b"data: {}\n\n"), "events without content"),
    "pings": (pour(b'event: ping\ndata: {"choices": []}\n\n'), "events without content"),
    "lines of 3 bytes": (pour(b"d:\n", 5_000_000), "an event of more than 10000 lines"),
    "data of 3 bytes": (pour(b"data:7\n", 2_000_000), "an event of more than 10000 lines"),
    "an event without an end": (pour(b"x" * 100), "an event of more than 16777216 bytes"),
}


@pytest.mark.parametrize(
    ("flood", "told_of"), [pytest.param(*case, id=name) for name, case in FLOODS.items()]
)
def test_a_flood_is_cut_short(
    asked: Ask, providers: Providers, ledger: Ledger, flood: Handler, told_of: str
) -> None:
    """With an error that says what came too often, long before any deadline; the record keeps what was good."""
    providers.handlers["main"] = then(begun, flood)

    told = asked("main/m", stream=True)

    assert told.text == "Hi"
    assert told.error.code == "upstream_error"
    assert told_of in told.error.message
    assert told.elapsed_s < 15
    assert trail(ledger.record(told.request_id)) == [("main", "truncated")]


MANY = b'{"choices": [' + b",".join([b"{}"] * 300_000) + b"]}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handler", [body(MANY), events(MANY.decode())], ids=["a body", "an event"])
def test_more_values_than_any_answer_has_are_not_decoded(
    asked: Ask, providers: Providers, ledger: Ledger, handler: Handler, *, stream: bool
) -> None:
    """What is small as bytes, and smaller compressed, would be a hundred times as large in memory."""
    providers.handlers["main"] = handler

    told = asked("main/m", stream=stream)

    assert told.error.code == "upstream_error"
    assert "malformed: it holds more than 200000 values" in told.error.message
    assert len(ledger.record(told.request_id)["attempts"]) == 1
