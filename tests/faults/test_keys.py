"""Several keys of one provider: used in turn, and left out while they are refused or limited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asking import Asked
from ledger import Ledger, trail
from providers import Exchange, Handler, Providers, body, events, status, text

Ask = Callable[..., Asked]


def key_of(exchange: Exchange) -> str:
    return exchange.headers["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("provider", "http_status", "headers"),
    [
        ("dead_keys", 401, {}),
        ("limited_keys", 429, {"retry_after": "60"}),
        ("poor_keys", 402, {}),
    ],
)
def test_a_key_that_is_refused_is_rotated_past(
    asked: Ask,
    providers: Providers,
    ledger: Ledger,
    *,
    provider: str,
    http_status: int,
    headers: dict[str, str],
) -> None:
    """The next key answers the same request at once, and later requests leave the bad one out."""

    async def refuse_one(exchange: Exchange) -> None:
        if key_of(exchange) == "key-a":
            await status(http_status, headers=headers)(exchange)
        else:
            await providers.good(exchange)

    providers.handlers[provider] = refuse_one

    answers = [asked(f"{provider}/m", stream=i % 2 == 0) for i in range(6)]

    assert [told.text for told in answers] == ["Hello!"] * 6
    used = [key_of(exchange) for exchange in providers.requests(provider)]
    assert used[:2] == ["key-a", "key-b"]
    assert used.count("key-a") == 1
    assert trail(ledger.record(answers[0].request_id)) == [(provider, "failed"), (provider, "ok")]
    assert answers[0].elapsed_s < 10


def test_without_a_good_key_left_the_failure_is_told(
    asked: Ask, providers: Providers, ledger: Ledger
) -> None:
    """All keys are tried once, then the client learns that the gateway's credential was refused."""
    providers.handlers["no_keys_left"] = status(401)

    told = asked("no_keys_left/m", stream=False)

    assert (told.status, told.error.code) == (502, "upstream_auth")
    assert [key_of(e) for e in providers.requests("no_keys_left")] == ["key-a", "key-b"]
    assert trail(ledger.record(told.request_id)) == [("no_keys_left", "failed")] * 2


ODD_KEY = "correct/horse+battery"
WORDS = f"No such thing for {ODD_KEY}."
ECHO = {"error": {"message": WORDS, "code": 500}}


@pytest.mark.parametrize(
    ("handler", "stream"),
    [
        (status(500, WORDS), False),
        (status(400, WORDS), True),
        (events(ECHO), True),
        (events(*text("Hi"), ECHO), True),
    ],
    ids=["failure", "refusal", "error in a 200", "error after content"],
)
def test_a_key_that_a_provider_echoes_is_told_to_nobody(
    asked: Ask, providers: Providers, ledger: Ledger, *, handler: Handler, stream: bool
) -> None:
    """Whatever the key looks like, it is in no message and in no record."""
    providers.handlers["odd_key"] = handler

    told = asked("odd_key/m", stream=stream)

    assert key_of(providers.requests("odd_key")[0]) == ODD_KEY
    assert told.error is not None
    assert "No such thing for [redacted]." in told.error.message
    record = ledger.record(told.request_id)
    assert ODD_KEY not in repr(record)
    assert "[redacted]" in repr(record)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "newer"])
def test_a_wrong_key_is_named_by_its_variable(
    asked: Ask, providers: Providers, provider: str, *, stream: bool
) -> None:
    """Who reads the error knows what to mend; the key itself is in it nowhere."""
    providers.handlers[provider] = status(401, "Bad key: key-a.")

    told = asked(f"{provider}/m", stream=stream)

    assert told.error.code == "upstream_auth"
    message = told.error.body["message"]
    assert message == f"{provider} refused the gateway's key; check FAULTS_KEY_A."


def test_a_missing_key_is_named_by_its_variable(asked: Ask) -> None:
    """Of a configured provider, and of a known one that is not."""
    configured, known = asked("keyless/m", stream=False), asked("openrouter/m", stream=False)
    of_two, keyless = asked("azure/m", stream=False), asked("ollama/m", stream=False)

    assert "FAULTS_KEY_THAT_IS_NOT_SET" in configured.error.body["message"]
    assert "OPENROUTER_API_KEY" in known.error.body["message"]
    assert "set AZURE_OPENAI_API_KEY and AZURE_OPENAI_BASE_URL" in of_two.error.body["message"]
    assert (
        "The gateway does not serve the provider 'ollama': set OLLAMA_BASE_URL"
        in (keyless.error.body["message"])
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "handler", [status(404), body(b"<html>", "text/html")], ids=["404", "a web page"]
)
def test_what_is_wrong_with_a_base_url_is_said_at_the_first_failure(
    asked: Ask, providers: Providers, handler: Handler, *, stream: bool
) -> None:
    """As `doctor` says it."""
    providers.handlers["unversioned"] = handler

    told = asked("unversioned/m", stream=stream)

    assert told.status == 502
    message = told.error.body["message"]
    assert "base_url may lack its version, such as /v1 in [providers.unversioned]" in message
