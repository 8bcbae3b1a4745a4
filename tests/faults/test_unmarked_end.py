"""A whole answer whose end is not marked: finish reason and usage have come, and the connection stays open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, after, chunk, events, hang, text, then

Ask = Callable[..., Asked]

END = chunk(None, finish_reason="stop")
USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}


def gemini(piece: str, finish_reason: str | None = None, usage: bool = True) -> dict[str, Any]:
    counts = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
    candidate: dict[str, Any] = {"content": {"parts": [{"text": piece}]}}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    return {"candidates": [candidate], "usageMetadata": counts if usage else {}}


CLAUDE: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"model": "claude-x", "usage": {"input_tokens": 9}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Whole answer"},
    },
    {"type": "content_block_stop", "index": 0},
]
CLAUDE_END: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}


async def comments(exchange: Exchange) -> None:
    """Go on with nothing but comments."""
    try:
        while True:
            await exchange.chunk(b": ping\n\n" * 1000)
    except ConnectionError:
        exchange.close()


UNMARKED: dict[str, tuple[str, Handler, bool]] = {
    "openai": (
        "main",
        then(events(*text("Whole ", "answer"), END, USAGE, end=False), hang),
        True,
    ),
    "openai, usage with the finish": (
        "main",
        then(events(*text("Whole answer"), {**END, "usage": USAGE["usage"]}, end=False), hang),
        True,
    ),
    "openai, comments without an end": (
        "main",
        then(events(*text("Whole answer"), END, USAGE, end=False), comments),
        True,
    ),
    "openai, a shorter idle deadline": (
        "idle",
        then(events(*text("Whole answer"), END, USAGE, end=False), hang),
        True,
    ),
    "openai, without usage": (
        "idle",
        then(events(*text("Whole answer"), END, end=False), hang),
        False,
    ),
    "gemini": (
        "gemini",
        then(events(gemini("Whole "), gemini("answer", "STOP"), end=False), hang),
        True,
    ),
    "gemini, finished on every chunk": (
        "gemini",
        events(gemini("Whole ", "STOP", usage=False), gemini("answer", "STOP")),
        True,
    ),
    "anthropic": (
        "anthropic",
        then(events(*CLAUDE, {**CLAUDE_END, "usage": {"output_tokens": 3}}, end=False), hang),
        True,
    ),
    "anthropic, without usage": (
        "anthropic",
        then(events(*CLAUDE, CLAUDE_END, end=False), hang),
        False,
    ),
}


@pytest.mark.parametrize(
    ("provider", "handler", "is_counted"),
    [pytest.param(*case, id=name) for name, case in UNMARKED.items()],
)
def test_an_end_that_is_not_marked_is_waited_for_briefly(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    *,
    provider: str,
    handler: Handler,
    is_counted: bool,
) -> None:
    """The client has the whole answer, with its finish reason and usage, and the record says so."""
    providers.handlers[provider] = handler

    told = asked(f"{provider}/m", stream=True)

    assert told.error is None
    assert (told.text, told.finish_reason) == ("Whole answer", "stop")
    assert told.elapsed_s < 12
    if is_counted:
        assert told.usage.total_tokens == 12
    record = ledger.record(told.request_id)
    assert record["status"] == "completed"
    assert record["usage_source"] == ("provider" if is_counted else "estimated")
    assert trail(record) == [(provider, "ok")]


def test_content_after_a_finish_reason_takes_its_time(asked: Ask, providers: Providers) -> None:
    """A sender that says of each chunk that it is the last is not believed, and what follows is not lost."""

    async def premature(exchange: Exchange) -> None:
        await events(gemini("Whole ", "STOP"), gemini("but ", "STOP"), end=False)(exchange)
        await after(1.5, events_on(gemini("slow", "STOP")))(exchange)

    providers.handlers["gemini"] = premature

    told = asked("gemini/m", stream=True)

    assert (told.error, told.text, told.finish_reason) == (None, "Whole but slow", "stop")


def events_on(*data: Any) -> Handler:
    """Go on with a stream, and end it well."""

    async def handle(exchange: Exchange) -> None:
        for event in data:
            await exchange.event(event)
        await exchange.chunk(b"")

    return handle
