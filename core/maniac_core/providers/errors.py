"""The meaning of a provider's error: HTTP status, headers and body to an UpstreamFailure, for every dialect.

The table, with what may be tried next:

| provider says | reason | same upstream again | next candidate |
|---|---|---|---|
| 400, 422 | UPSTREAM_REJECTED, CONTEXT_LENGTH_EXCEEDED, CONTENT_POLICY_VIOLATION | no | no |
| 400, 403, 404, 410 about the model | MODEL_NOT_FOUND | no | yes |
| 401, 403, 400 about the key | UPSTREAM_AUTH | no | yes |
| 402, 400 about credit | UPSTREAM_ERROR | no | yes |
| 408, 504, 522, 524 | UPSTREAM_TIMEOUT | yes | yes |
| 413 | PAYLOAD_TOO_LARGE | no | no |
| 429 | UPSTREAM_RATE_LIMITED | yes, unless the quota is used up | yes |
| 498, 503, 529 | UPSTREAM_OVERLOADED | yes | yes |
| 409, 425, other 5xx | UPSTREAM_ERROR | yes | yes |
| 501, 505, redirects, anything else | UPSTREAM_ERROR | no | yes |

A prompt that is too long falls back by its reason, not by the flag: only a larger context window helps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.domain.errors import Reason
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.error_names import (
    CONTEXT_CODES,
    CONTEXT_MESSAGE,
    CREDIT_MESSAGE,
    KEY_MESSAGE,
    MODEL_CODES,
    MODEL_MESSAGE,
    NOT_FOUND,
    POLICY_CODES,
    POLICY_MESSAGE,
    QUOTA,
    STATUS_OF_NAME,
)
from maniac_core.providers.redaction import clean_line, shortened
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode
from maniac_core.providers.transport.retry_after import retry_after_s

_HTTP_STATUS = re.compile(r"[45][0-9]{2}")
# Characters of an error that are looked at.
_MAX_TEXT = 8_000
_MAX_PARAM = 1_000

_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an error body; None: absent."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    """A code that is an HTTP status."""
    data: JsonObject = {}
    """The error object itself, for what only one dialect knows."""

    @property
    def names(self) -> set[str]:
        """Code and type in lower case."""
        return {name.lower() for name in (self.code, self.type) if name}


def response_failure(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """Map an answer with an error status; header names are lower case."""
    return _failure(status, headers, _parse(body), http_status=status)


def stream_failure(error: Any, headers: Mapping[str, str] | None = None) -> UpstreamFailure:
    """Map an error object, or its text, that came inside a 200."""
    detail = detail_of(error)
    status = detail.status
    if status is None:
        named = [STATUS_OF_NAME[name] for name in detail.names if name in STATUS_OF_NAME]
        # Of a code and a type the more exact one: anything but the catch-all 400.
        status = max(named) if named else 500
    return _failure(status, headers or {}, detail, http_status=200)


def unreadable_failure(body: bytes) -> UpstreamFailure:
    """Return the failure for a 200 whose body is not an answer: empty, a web page, or something else."""
    start = body[:200].lstrip()
    if not start:
        what = "an empty body"
    elif start.startswith(b"<"):
        what = "a web page"
    else:
        what = "something that is not a chat completion"
    return UpstreamFailure(
        Reason.ERROR_REASON_UPSTREAM_ERROR,
        f"The provider answered with {what}.",
        retry=True,
        fall_back=True,
        http_status=200,
    )


def error_of_json(data: bytes) -> UpstreamFailure | None:
    """Return the failure for JSON without an answer in it; None if it is not an error."""
    error = error_in(data)
    return None if error is None else stream_failure(error)


def error_in(data: bytes) -> Any:
    """Return the error in JSON without an answer in it: an object, or a text; None if it is not an error.

    Some servers send a list of errors, of which the first counts.
    """
    try:
        return _error_of(decode(_ANYTHING, data))
    except NOT_JSON:
        return None


def named_failure(data: bytes) -> UpstreamFailure:
    """Return the failure for an event that is called an error, whatever it holds."""
    error = error_in(data)
    if error is None:
        try:
            error = decode(_ANYTHING, data)
        except NOT_JSON:
            error = data[:_MAX_TEXT].decode(errors="replace")
    return stream_failure(error)


def unframed_failure(data: bytes) -> UpstreamFailure | None:
    """Return the failure for JSON that stands in a stream of events without belonging to one; None for no error.

    Servers that break off write their error into the body as it is. Text that begins like JSON and is not was cut off.
    """
    if data.lstrip()[:1] not in (b"{", b"["):
        return None
    if failure := error_of_json(data):
        return failure
    try:
        decode(_ANYTHING, data)
    except NOT_JSON:
        return UpstreamFailure(
            Reason.ERROR_REASON_UPSTREAM_ERROR,
            "The provider broke its answer off with text that is not an event.",
            retry=True,
            fall_back=True,
            http_status=200,
        )
    return None


def _error_of(value: Any) -> Any:
    if isinstance(value, list):
        return next((error for item in value if (error := _error_of(item)) is not None), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, list):
        error = next((item for item in error if item), None)
    if isinstance(error, str) and error:
        # xAI and Ollama: the text stands beside the code.
        return {**value, "message": error}
    if error:
        return error
    # Older vLLM puts the error's own keys at the top, FastAPI servers `detail`.
    if value.get("object") == "error" or value.get("type") == "error" or value.get("detail"):
        return value
    return None


def detail_of(error: Any) -> ErrorDetail:
    """Read an error object in any of the usual shapes."""
    if isinstance(error, str):
        return ErrorDetail(message=error[:_MAX_TEXT])
    if not isinstance(error, dict):
        return ErrorDetail()
    message = error.get("message") or error.get("detail")
    if message is not None and not isinstance(message, str):
        # A list of validation errors.
        message = _json_text(message)
    code = error.get("code")
    status = None
    for candidate in (code, error.get("status_code"), error.get("status")):
        if isinstance(candidate, str) and _HTTP_STATUS.fullmatch(candidate):
            candidate = int(candidate)  # noqa: PLW2901 - the same number
        if isinstance(candidate, int) and 400 <= candidate <= 599:
            status = candidate
            break
    kind = error.get("type") or error.get("status")
    param = error.get("param")
    return ErrorDetail(
        message=message[:_MAX_TEXT] if message else None,
        type=kind if isinstance(kind, str) else None,
        code=code if isinstance(code, str) and not code.isdigit() else None,
        param=clean_line(param[:_MAX_PARAM]) if isinstance(param, str) and param else None,
        status=status,
        data=error,
    )


def _json_text(value: Any) -> str | None:
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return None


def _parse(body: bytes) -> ErrorDetail | None:
    """Return what an error body says; None when it is not for us: empty, a web page, broken."""
    start = body[:200].lstrip()
    if not start or start.startswith(b"<"):
        return None
    try:
        value = decode(_ANYTHING, body)
    except NOT_JSON:
        return ErrorDetail(message=body[:_MAX_TEXT].decode(errors="replace"))
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return detail_of(error)
    if isinstance(error, str):
        # xAI and Ollama: the text stands beside the code.
        return detail_of({**value, "message": error})
    return detail_of(value)


def _failure(
    status: int, headers: Mapping[str, str], detail: ErrorDetail | None, *, http_status: int
) -> UpstreamFailure:
    reason, retry, fall_back = _verdict(status, detail)
    message = clean_line(detail.message) if detail and detail.message else ""
    message = _explained(reason, status, message, retry=retry)
    failure = UpstreamFailure(
        reason,
        shortened(message),
        retry=retry,
        fall_back=fall_back,
        http_status=http_status,
        retry_after_s=retry_after_s(headers) if fall_back else None,
        param=detail.param if detail and not fall_back else None,
    )
    failure.untrimmed = message
    return failure


def _verdict(status: int, detail: ErrorDetail | None) -> tuple[Reason.ValueType, bool, bool]:
    """Return the reason, whether to retry, whether to fall back."""
    if status in (400, 422):
        return _rejection(detail or ErrorDetail())
    if status == 403 and detail is not None and _is_policy(detail):
        return Reason.ERROR_REASON_CONTENT_POLICY_VIOLATION, False, False
    if status in (403, 404, 410) and detail is not None and _is_model_missing(status, detail):
        return Reason.ERROR_REASON_MODEL_NOT_FOUND, False, True
    # A 403 as a web page comes from a firewall on the way: it says nothing about the key.
    if status == 401 or (status == 403 and detail is not None):
        return Reason.ERROR_REASON_UPSTREAM_AUTH, False, True
    if status in (408, 504, 522, 524):
        return Reason.ERROR_REASON_UPSTREAM_TIMEOUT, True, True
    if status == 413:
        if detail is not None and "rate_limit_exceeded" in detail.names:
            # Groq: larger than the tokens per minute, which no waiting changes.
            return Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED, False, True
        return Reason.ERROR_REASON_PAYLOAD_TOO_LARGE, False, False
    if status == 429:
        is_used_up = detail is not None and not QUOTA.isdisjoint(detail.names)
        return Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED, not is_used_up, True
    if status in (498, 503, 529):
        return Reason.ERROR_REASON_UPSTREAM_OVERLOADED, True, True
    retry = status in (409, 425) or (status >= 500 and status not in (501, 505))
    return Reason.ERROR_REASON_UPSTREAM_ERROR, retry, True


def _rejection(detail: ErrorDetail) -> tuple[Reason.ValueType, bool, bool]:
    names, message = detail.names, detail.message or ""
    if not CONTEXT_CODES.isdisjoint(names) or CONTEXT_MESSAGE.search(message):
        return Reason.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, False, False
    if _is_policy(detail):
        return Reason.ERROR_REASON_CONTENT_POLICY_VIOLATION, False, False
    if _is_model_missing(400, detail):
        return Reason.ERROR_REASON_MODEL_NOT_FOUND, False, True
    if "invalid_api_key" in names or KEY_MESSAGE.match(message):
        return Reason.ERROR_REASON_UPSTREAM_AUTH, False, True
    if CREDIT_MESSAGE.match(message):
        return Reason.ERROR_REASON_UPSTREAM_ERROR, False, True
    return Reason.ERROR_REASON_UPSTREAM_REJECTED, False, False


def _is_policy(detail: ErrorDetail) -> bool:
    if not POLICY_CODES.isdisjoint(detail.names):
        return True
    metadata = detail.data.get("metadata")
    if isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata):
        return True
    return POLICY_MESSAGE.search(detail.message or "") is not None


def _is_model_missing(status: int, detail: ErrorDetail) -> bool:
    if not MODEL_CODES.isdisjoint(detail.names):
        return True
    message = detail.message or ""
    if status in (404, 410):
        words = message.lower()
        return not NOT_FOUND.isdisjoint(detail.names) or any(
            word in words for word in ("model", "deployment", "endpoints found")
        )
    return status == 400 and MODEL_MESSAGE.search(message) is not None


def _explained(reason: Reason.ValueType, status: int, message: str, *, retry: bool) -> str:
    """Return the sentence for the caller. What concerns only the operator's account is not passed on."""
    tail = f": {message}" if message else "."
    if reason == Reason.ERROR_REASON_UPSTREAM_AUTH:
        return "The provider refused the gateway's own credential."
    if reason == Reason.ERROR_REASON_UPSTREAM_RATE_LIMITED:
        if not retry and status == 429:
            return "The gateway's quota at the provider is used up."
        return "The provider's rate limit is reached" + tail
    if status == 402 or (status == 400 and reason == Reason.ERROR_REASON_UPSTREAM_ERROR):
        return "The gateway's account at the provider has no credit left."
    if reason == Reason.ERROR_REASON_UPSTREAM_TIMEOUT:
        return "The provider did not answer in time" + tail
    if reason == Reason.ERROR_REASON_UPSTREAM_OVERLOADED:
        return "The provider is overloaded" + tail
    if reason == Reason.ERROR_REASON_UPSTREAM_ERROR:
        if 300 <= status < 400 or status in (404, 405):
            return f"The provider has no chat endpoint at the configured base_url (HTTP {status})."
        return f"The provider failed (HTTP {status})" + tail
    return message or f"The provider refused the request (HTTP {status})."
