"""The form of errors on each wire: OpenAI's envelope, and the forms of other APIs on their own paths."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from maniac_edge.errors import EdgeError, envelope

_encode = msgspec.json.Encoder().encode
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


_MESSAGES = ("/v1/messages", "/api/v1/messages", "/v1/v1/messages")
_MODELS = ("/v1/models", "/v1/v1/models")
_GEMINI = ("/v1beta/", "/v1alpha/")
GEMINI_METHODS = frozenset(
    {
        "generateContent",
        "streamGenerateContent",
        "embedContent",
        "batchEmbedContents",
        "countTokens",
    }
)
"""What Gemini's clients ask of a model, behind a colon at the end of the path."""


def is_gemini(path: str) -> bool:
    """Say whether a path is one of Gemini's API; its clients put some of them below /v1."""
    return path.startswith(_GEMINI) or (
        path.startswith("/v1/models/") and path.rpartition(":")[2] in GEMINI_METHODS
    )


def is_anthropic(path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a request is one of Anthropic's API. Others have its path of models, but not its header."""
    return path.startswith(_MESSAGES) or (
        path.startswith(_MODELS) and any(name == b"anthropic-version" for name, _ in headers)
    )


def error_body(
    path: str, headers: Iterable[tuple[bytes, bytes]], error: EdgeError, request_id: str
) -> bytes:
    """Return the JSON of an error as the client of a request expects it."""
    if is_gemini(path):
        return google_error(error, request_id)
    if is_anthropic(path, headers):
        return anthropic_error(error, request_id)
    return envelope(error)


def anthropic_error(error: EdgeError, request_id: str) -> bytes:
    """Return an error of Anthropic's API."""
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(error.status, default)
    body = {"type": kind, "message": error.message}
    return _encode({"type": "error", "error": body, "request_id": request_id})


def google_error(error: EdgeError, request_id: str) -> bytes:
    """Return an error of Google's APIs."""
    del request_id
    default = "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT"
    status = _GOOGLE_STATUSES.get(error.status, default)
    body = {"code": error.status, "message": error.message, "status": status}
    return _encode({"error": body})
