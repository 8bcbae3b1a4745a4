"""Faults before the first content: the client gets an ordinary error with its true status, streamed or not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import openai
import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, body, events, hang, reset, status, text, then

Ask = Callable[..., Asked]
SSE = "text/event-stream"


class Fault(NamedTuple):
    """What the provider does and what is to come of it."""

    handler: Handler | None
    error: type[openai.APIStatusError]
    code: str
    message: str
    """Pattern that the client's message matches."""
    provider: str = "main"
    outcome: str = "failed"
    http_status: int | None = None
    """What the attempt's row says the provider answered with."""
    usage: str = "none"
    """Source of the usage."""


async def half_a_body(exchange: Exchange) -> None:
    await exchange.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    )
    await exchange.send(b'{"id": "x", "choices"')


def close(exchange: Exchange) -> None:
    exchange.close()


def abort(exchange: Exchange) -> None:
    exchange.reset()


Overloaded = openai.InternalServerError
UNAVAILABLE = Fault(
    None, Overloaded, "upstream_error", "^unreachable could not be reached", "unreachable"
)
BOTH = {
    "refused connection": UNAVAILABLE,
    "no connection": Fault(
        None,
        Overloaded,
        "upstream_timeout",
        "accepted no connection in time",
        "unconnected",
        "timeout",
    ),
    "reset before headers": Fault(
        reset, Overloaded, "upstream_error", "^main closed the connection instead of answering"
    ),
    "429 without Retry-After": Fault(
        status(429, "Slow down."),
        openai.RateLimitError,
        "upstream_rate_limited",
        "rate limit is reached: Slow down",
        http_status=429,
    ),
    "500": Fault(
        status(500, "Boom."),
        Overloaded,
        "upstream_error",
        r"failed \(HTTP 500\): Boom",
        http_status=500,
    ),
    "503": Fault(
        status(503, "Busy."), Overloaded, "upstream_overloaded", "overloaded: Busy", http_status=503
    ),
    "529": Fault(
        status(529, "Busy."), Overloaded, "upstream_overloaded", "overloaded: Busy", http_status=529
    ),
    "refused key": Fault(
        status(401, "Bad key sk-123."),
        Overloaded,
        "upstream_auth",
        "^main refused the gateway's key; none is configured",
        http_status=401,
    ),
    "refused request": Fault(
        status(400, "Bad temperature.", param="temperature"),
        openai.BadRequestError,
        "upstream_rejected",
        "^Bad temperature",
        http_status=400,
    ),
    "refused content": Fault(
        status(400, "No.", code="content_filter"),
        openai.BadRequestError,
        "content_policy_violation",
        "^No",
        http_status=400,
    ),
    "too long": Fault(
        status(400, "Too long.", code="context_length_exceeded"),
        openai.BadRequestError,
        "context_length_exceeded",
        "^Too long",
        http_status=400,
    ),
    "HTML in a 200": Fault(
        body(b"<html>Sign in</html>", "text/html"),
        Overloaded,
        "upstream_error",
        "a web page",
        http_status=200,
    ),
    "error in a 200": Fault(
        body(b'{"error": {"message": "Full up.", "code": 503}}'),
        Overloaded,
        "upstream_overloaded",
        "Full up",
        http_status=200,
    ),
    "no HTTP": Fault(
        lambda exchange: exchange.send(b"NONSENSE\r\n\r\n"),
        Overloaded,
        "upstream_error",
        "valid HTTP",
    ),
    "an encoding that was not asked for": Fault(
        lambda exchange: exchange.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"content-encoding: br\r\ncontent-length: 1\r\n\r\nx"
        ),
        Overloaded,
        "upstream_error",
        "^main answered in a content encoding that is not supported; gzip and deflate are",
    ),
}
WHOLE = {
    "empty 200": Fault(body(b""), Overloaded, "upstream_error", "an empty body", http_status=200),
    "malformed body": Fault(
        body(b'{"choices": ['),
        Overloaded,
        "upstream_error",
        "not a chat completion",
        http_status=200,
    ),
    "reset after headers": Fault(
        then(half_a_body, abort),
        Overloaded,
        "upstream_error",
        "^main broke off in the middle",
        http_status=200,
        usage="estimated",
    ),
    "cut in the body": Fault(
        then(half_a_body, close),
        Overloaded,
        "upstream_error",
        "^main broke off in the middle",
        http_status=200,
        usage="estimated",
    ),
    "stall in the body": Fault(
        then(half_a_body, hang),
        Overloaded,
        "upstream_timeout",
        "^idle stopped in the middle of its answer",
        provider="idle",
        outcome="timeout",
        http_status=200,
        usage="estimated",
    ),
    "hang before headers": Fault(
        hang,
        Overloaded,
        "upstream_timeout",
        r"^total did not answer within 0.5 s",
        provider="total",
        outcome="timeout",
        usage="estimated",
    ),
}
STREAMED = {
    "empty stream": Fault(
        body(b"", SSE),
        Overloaded,
        "upstream_error",
        "^main ended its answer before",
        http_status=200,
    ),
    "error frame first": Fault(
        events({"error": {"message": "Full up.", "code": 503}}),
        Overloaded,
        "upstream_overloaded",
        "Full up",
        http_status=200,
    ),
    "reset after headers": Fault(
        then(events(end=False), abort),
        Overloaded,
        "upstream_error",
        "^main broke off in the middle",
        http_status=200,
    ),
    "cut before content": Fault(
        then(events(*text(), end=False), close),
        Overloaded,
        "upstream_error",
        "^main broke off in the middle",
        http_status=200,
        usage="estimated",
    ),
    "only [DONE]": Fault(
        events("[DONE]"),
        Overloaded,
        "upstream_error",
        "^main ended its answer before",
        http_status=200,
    ),
    "malformed chunks only": Fault(
        events("{nonsense", "{more"),
        Overloaded,
        "upstream_error",
        "^main ended its answer before",
        http_status=200,
    ),
    "hang before headers": Fault(
        hang,
        Overloaded,
        "upstream_timeout",
        r"^first_token sent no content within 0.3 s",
        provider="first_token",
        outcome="timeout",
        usage="estimated",
    ),
    "hang before first token": Fault(
        then(events(*text(), end=False), hang),
        Overloaded,
        "upstream_timeout",
        r"^first_token sent no content within 0.3 s",
        provider="first_token",
        outcome="timeout",
        http_status=200,
        usage="estimated",
    ),
}
STATUS = {
    "upstream_rate_limited": 429,
    "upstream_overloaded": 503,
    "upstream_rejected": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
}
CASES = [
    *[
        pytest.param(fault, stream, id=f"{name}-{'stream' if stream else 'whole'}")
        for name, fault in BOTH.items()
        for stream in (False, True)
    ],
    *[pytest.param(fault, False, id=f"{name}-whole") for name, fault in WHOLE.items()],
    *[pytest.param(fault, True, id=f"{name}-stream") for name, fault in STREAMED.items()],
]


@pytest.mark.parametrize(("fault", "stream"), CASES)
def test_a_fault_before_content_is_an_error_with_its_true_status(
    asked: Ask, providers: Providers, ledger: Ledger, fault: Fault, *, stream: bool
) -> None:
    """The right class with the right message, in time; and one record that says what happened."""
    if fault.handler is not None:
        providers.handlers[fault.provider] = fault.handler

    told = asked(f"{fault.provider}/m", stream=stream)

    assert type(told.error) is fault.error
    assert told.status == STATUS.get(fault.code, 502)
    assert told.error.code == fault.code
    assert re.search(fault.message, told.error.body["message"])
    assert "127.0.0.1" not in told.error.body["message"]
    assert not told.has_begun
    assert told.elapsed_s < 10
    record = ledger.record(told.request_id)
    assert record["status"] == "failed"
    assert record["finish_reason"] == "error"
    assert record["error_reason"] == fault.code.upper()
    assert record["usage_source"] == fault.usage
    assert (record["input_tokens"] > 0) is (fault.usage != "none")
    assert record["output_tokens"] == 0
    assert trail(record) == [(fault.provider, fault.outcome)]
    assert record["attempts"][0]["http_status"] == fault.http_status


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("value", "wanted"), [("7", 7), ("0.2", 1), ("1000", 60), ("Wed, 21 Oct 2015 07:28:09 GMT", 9)]
)
def test_the_wish_of_a_429_reaches_the_client_in_whole_seconds(
    asked: Ask, providers: Providers, value: str, wanted: int, *, stream: bool
) -> None:
    """Retry-After in seconds, fractions or as a date is passed on as an integer of at most 60."""
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    providers.handlers["main"] = status(429, headers={"retry_after": value, "date": date})

    told = asked("main/m", stream=stream)

    assert isinstance(told.error, openai.RateLimitError)
    assert told.error.response.headers["retry-after"] == str(wanted)


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_of_our_own_calls_no_provider(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """A 400 of the gateway itself is neither tried nor listed, fallbacks or not."""
    told = asked("main/m", stream=stream, n=2, extra_body={"models": ["spare/m"]})

    assert isinstance(told.error, openai.BadRequestError)
    assert told.error.param == "n"
    record = ledger.record(told.request_id)
    assert (record["status"], record["attempts"]) == ("rejected", [])
    assert not providers.exchanges


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_dialect_cannot_carry_is_the_callers_400(
    asked: Ask, providers: Providers, ledger: Ledger, *, stream: bool
) -> None:
    """A tool result without its call names its message, and no other candidate is asked."""
    messages: list[dict[str, Any]] = [{"role": "tool", "tool_call_id": "x", "content": "1"}]
    told = asked(
        "anthropic/claude-x", stream=stream, messages=messages, extra_body={"models": ["spare/m"]}
    )

    assert isinstance(told.error, openai.BadRequestError)
    assert told.error.param.startswith("messages[0]")
    assert ledger.record(told.request_id)["status"] == "rejected"
    assert not providers.exchanges
