"""Errors of providers: what the caller is told, and what is tried next."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import response_failure, stream_failure

REJECTED = Reason.ERROR_REASON_UPSTREAM_REJECTED
CONTEXT = Reason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
POLICY = Reason.ERROR_REASON_CONTENT_POLICY_VIOLATION
MODEL = Reason.ERROR_REASON_MODEL_NOT_FOUND
AUTH = Reason.ERROR_REASON_UPSTREAM_AUTH
ERROR = Reason.ERROR_REASON_UPSTREAM_ERROR
TIMEOUT = Reason.ERROR_REASON_UPSTREAM_TIMEOUT
LARGE = Reason.ERROR_REASON_PAYLOAD_TOO_LARGE
LIMITED = Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED
OVERLOADED = Reason.ERROR_REASON_UPSTREAM_OVERLOADED


def fail(status: int, body: Any = b"", **headers: str) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return response_failure(status, names, raw)


def error(message: str = "no", **keys: Any) -> dict[str, Any]:
    return {"error": {"message": message, **keys}}


@pytest.mark.parametrize(
    ("status", "body", "reason", "retry", "fall_back"),
    [
        (400, error(), REJECTED, False, False),
        (422, {"detail": [{"loc": ["body"], "msg": "extra"}]}, REJECTED, False, False),
        (400, b"", REJECTED, False, False),
        (400, error(code="context_length_exceeded"), CONTEXT, False, False),
        (400, error("This model's maximum context length is 8192 tokens."), CONTEXT, False, False),
        (400, error("prompt is too long: 210000 tokens > 200000 maximum"), CONTEXT, False, False),
        (400, error("gone", type="exceed_context_size_error", code=400), CONTEXT, False, False),
        (400, error("max_tokens is too large: 99999", param="max_tokens"), REJECTED, False, False),
        (400, error(code="content_filter"), POLICY, False, False),
        (400, error(code="invalid_prompt"), POLICY, False, False),
        (400, error("Content Exists Risk"), POLICY, False, False),
        (403, error(code=403, metadata={"reasons": ["violence"]}), POLICY, False, False),
        (404, error(code="model_not_found"), MODEL, False, True),
        (404, {"error": "model 'x' not found, try pulling it first"}, MODEL, False, True),
        (404, error("No endpoints found for x/y.", code=404), MODEL, False, True),
        (400, error("x/y is not a valid model ID", code=400), MODEL, False, True),
        (400, error(code="model_decommissioned"), MODEL, False, True),
        (403, error(code="model_not_found"), MODEL, False, True),
        (404, b"<html>nginx</html>", ERROR, False, True),
        (404, {"detail": "Not Found"}, ERROR, False, True),
        (401, error(code="invalid_api_key"), AUTH, False, True),
        (401, b"", AUTH, False, True),
        (403, error("Country not supported"), AUTH, False, True),
        (403, b"<html>Attention Required</html>", ERROR, False, True),
        (400, {"code": "bad", "error": "Incorrect API key provided: ab"}, AUTH, False, True),
        (400, error("Invalid value: 'Incorrect API key provided'"), REJECTED, False, False),
        (400, error("Your credit balance is too low to access"), ERROR, False, True),
        (402, error("Insufficient credits", code=402), ERROR, False, True),
        (408, error(), TIMEOUT, True, True),
        (504, b"<html>", TIMEOUT, True, True),
        (524, b"<html>", TIMEOUT, True, True),
        (413, error(), LARGE, False, False),
        (413, error(type="tokens", code="rate_limit_exceeded"), LIMITED, False, True),
        (429, error(type="tokens", code="rate_limit_exceeded"), LIMITED, True, True),
        (429, b"", LIMITED, True, True),
        (429, error(type="insufficient_quota", code="insufficient_quota"), LIMITED, False, True),
        (
            429,
            error("check your plan and billing", status="RESOURCE_EXHAUSTED"),
            LIMITED,
            True,
            True,
        ),
        (503, error(), OVERLOADED, True, True),
        (529, error(type="overloaded_error"), OVERLOADED, True, True),
        (498, error(), OVERLOADED, True, True),
        (500, error(), ERROR, True, True),
        (502, b"<html>Bad gateway</html>", ERROR, True, True),
        (520, b"", ERROR, True, True),
        (409, error(), ERROR, True, True),
        (501, error(), ERROR, False, True),
        (405, b"", ERROR, False, True),
        (307, b"", ERROR, False, True),
    ],
)
def test_status_and_body_decide_reason_and_next_step(
    status: int, body: Any, reason: Reason.ValueType, retry: bool, fall_back: bool
) -> None:
    """The table of the module, with the words that providers use."""
    failure = fail(status, body)
    got = (Reason.Name(failure.reason), failure.retry, failure.fall_back)
    assert got == (Reason.Name(reason), retry, fall_back)
    assert failure.http_status == status
    assert failure.message


@pytest.mark.parametrize(
    ("given", "reason", "retry"),
    [
        ({"message": "m", "code": 502}, ERROR, True),
        ({"message": "m", "code": "502"}, ERROR, True),
        ({"message": "m", "code": 429}, LIMITED, True),
        ({"message": "m", "code": 402}, ERROR, False),
        ({"message": "m", "type": "overloaded_error"}, OVERLOADED, True),
        ({"message": "m", "type": "invalid_request_error"}, REJECTED, False),
        (
            {"message": "m", "type": "invalid_request_error", "code": "rate_limit_exceeded"},
            LIMITED,
            True,
        ),
        (
            {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"},
            CONTEXT,
            False,
        ),
        ({"message": "m", "code": "insufficient_quota"}, LIMITED, False),
        ({"message": "m", "status": "UNAVAILABLE"}, OVERLOADED, True),
        ({"message": "m", "type": "never heard of"}, ERROR, True),
        ({"message": "m", "code": "²"}, ERROR, True),
        ({"message": "m", "code": "9" * 5000}, ERROR, True),
        ("m", ERROR, True),
        (7, ERROR, True),
    ],
)
def test_errors_inside_a_200_are_mapped_by_their_names(
    given: Any, reason: Reason.ValueType, retry: bool
) -> None:
    """Numbers count as statuses, names as those they stand for, anything else as a fault of the provider."""
    failure = stream_failure(given)
    assert (Reason.Name(failure.reason), failure.retry) == (Reason.Name(reason), retry)
    assert failure.http_status == 200


def test_rejections_pass_the_providers_words_and_parameter_on() -> None:
    """The caller sees what is wrong with the request, and where."""
    failure = fail(400, error("Invalid 'messages': empty array.", param="messages"))
    assert failure.message == "Invalid 'messages': empty array."
    assert failure.param == "messages"
    detail = fail(422, {"object": "error", "message": {"detail": [{"loc": ["body", "x"]}]}})
    assert '"loc":["body","x"]' in detail.message


@pytest.mark.parametrize(
    ("status", "text", "secret"),
    [
        (401, "Incorrect API key provided: sk-abc***xyz9. See your account.", "xyz9"),
        (400, "Bad header: Bearer abcdef0123456789", "abcdef0123456789"),
        (500, "key sk-proj-abcdef0123456789 failed", "abcdef0123456789"),
        (429, "Limit for org-AbCdEfGhIjKlMnOpQrSt on tokens", "AbCdEfGh"),
        (503, "GET https://x/v1?key=AIzaSyA0123456789abcdef failed", "AIzaSy"),
        (400, "api_key: 'hunter2hunter2' is odd", "hunter2"),
    ],
)
def test_no_credential_reaches_the_message(status: int, text: str, secret: str) -> None:
    """Keys, tokens and organisation ids that providers echo are removed."""
    failure = fail(status, error(text))
    assert secret not in failure.message
    assert failure.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, b"<html><head><title>502</title></head><body>" + b"x" * 5000),
        (500, b"\x00\x01\xff binary"),
        (500, b"upstream connect error\r\n\r\nreset"),
        (500, error("line\nbreak\x1b[31m" + "y" * 5000)),
        (500, b"{"),
        (500, b"[]"),
        (500, b"null"),
        (500, b"[" * 100_000),
    ],
)
def test_messages_are_short_and_clean(status: int, body: Any) -> None:
    """Web pages, binary and very long texts become one short printable line."""
    message = fail(status, body).message
    assert len(message) < 600
    assert "<html" not in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        (
            {
                "retry_after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry_after": "Wed, 21 Oct 2026 07:28:00 GMT",
                "date": "Wed, 21 Oct 2026 07:29:00 GMT",
            },
            0.0,
        ),
        ({"retry_after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "99999999"}, 86_400.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 +99999999999"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates by the provider's own clock; nonsense is nothing."""
    assert fail(429, **headers).retry_after_s == seconds


def test_rejections_carry_no_retry_after() -> None:
    """What will be refused again is not worth waiting for."""
    assert fail(400, error(), retry_after="7").retry_after_s is None
