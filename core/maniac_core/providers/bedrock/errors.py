"""Errors of Bedrock, whose names stand in a header or in the name of an event, to failures as those of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from maniac_core.domain.chat import JsonObject
from maniac_core.providers.base import UpstreamFailure
from maniac_core.providers.errors import response_failure, stream_failure
from maniac_core.providers.translation.foreign_json import NOT_JSON, decode

# Name, without its last word -> the HTTP status that says the same.
_STATUS = {
    "accessDenied": 403,
    "expiredToken": 403,
    "internalServer": 500,
    # The model failed, not the request.
    "modelError": 500,
    "modelStreamError": 500,
    "modelNotReady": 503,
    "modelTimeout": 504,
    "resourceNotFound": 404,
    "serviceQuotaExceeded": 429,
    "serviceUnavailable": 503,
    "throttling": 429,
    "unrecognizedClient": 403,
    "validation": 400,
}
_USED_UP = "insufficient_quota"
_NO_MODEL = "invalid_model"
# By which a request says that the model is not one, or not one that may be used.
_ABOUT_MODEL = (
    "model identifier is invalid",
    "model with the specified model id",
    "on-demand throughput",
)

_OBJECT = msgspec.json.Decoder(dict[str, Any])


def bedrock_failure(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFailure:
    """Map an error answer; the header `x-amzn-errortype` has the error's name, and perhaps a URL behind it."""
    name = headers.get("x-amzn-errortype", "").partition(":")[0]
    said = _said(body)
    if not (name or said):
        return response_failure(status, headers, body)
    error = msgspec.json.encode({"error": _error(name, said)})
    failure = response_failure(_STATUS.get(_stem(name), status), headers, error)
    failure.http_status = status
    return failure


def exception_failure(name: str, payload: bytes) -> UpstreamFailure:
    """Map an error inside a stream."""
    error = _error(name, _said(payload))
    return stream_failure({**error, "code": _STATUS.get(_stem(name), 500)})


def _stem(name: str) -> str:
    stem = name.removesuffix("Exception")
    return stem[:1].lower() + stem[1:]


def _said(body: bytes) -> str:
    try:
        given: JsonObject = decode(_OBJECT, body)
    except NOT_JSON:
        return ""
    words = given.get("message") or given.get("Message") or given.get("originalMessage")
    return words if isinstance(words, str) else ""


def _error(name: str, message: str) -> JsonObject:
    lowered = message.lower()
    kind = name
    if _stem(name) == "serviceQuotaExceeded":
        kind = _USED_UP
    elif any(words in lowered for words in _ABOUT_MODEL):
        kind = _NO_MODEL
    return {"message": message or name or "The provider failed.", "type": kind}
