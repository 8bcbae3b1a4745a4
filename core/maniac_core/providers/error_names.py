"""The names and texts by which providers tell what went wrong."""

from __future__ import annotations

import re

# Names that providers give to errors inside a 200, where no status line tells.
STATUS_OF_NAME = {
    "bad_request": 400,
    "badrequesterror": 400,
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "empty_image_file": 400,
    "exceed_context_size_error": 400,
    "failed_to_download_image": 400,
    "image_content_policy_violation": 400,
    "image_file_not_found": 400,
    "image_file_too_large": 400,
    "image_parse_error": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "invalid_argument": 400,
    "invalid_base64_image": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_image_mode": 400,
    "invalid_image_url": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "json_validate_failed": 400,
    "tool_use_failed": 400,
    "unsupported_image_media_type": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "billing_error": 402,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found": 404,
    "not_found_error": 404,
    "notfounderror": 404,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "resource_exhausted": 429,
    "tokens": 429,
    "too_many_requests": 429,
    "overloaded": 503,
    "overloaded_error": 529,
    "server_is_overloaded": 503,
    "service_unavailable": 503,
    "slow_down": 503,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "gateway_timeout": 504,
    "timeout": 504,
    "timeout_error": 504,
}
QUOTA = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"}
)
MODEL_CODES = frozenset(
    {
        "model_not_found",
        "model_not_available",
        "model_decommissioned",
        "model_not_exist",
        "unknown_model",
        "invalid_model",
        "deploymentnotfound",
    }
)
NOT_FOUND = frozenset({"not_found", "not_found_error", "notfounderror"})
POLICY_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "image_content_policy_violation",
        "invalid_prompt",
        "moderation_blocked",
        "responsibleaipolicyviolation",
    }
)
CONTEXT_CODES = frozenset(
    {"context_length_exceeded", "context_window_exceeded", "exceed_context_size_error"}
)
CONTEXT_MESSAGE = re.compile(
    r"maximum context length|prompt is too long|exceeds? (?:the )?(?:available )?context"
    r"|input token count.{0,40}exceeds|input is too long|too many input tokens"
    r"|reduce the length of the messages|context window",
    re.IGNORECASE,
)
POLICY_MESSAGE = re.compile(
    r"content management policy|violating our usage polic|content exists risk"
    r"|requires moderation|was flagged",
    re.IGNORECASE,
)
MODEL_MESSAGE = re.compile(r"not a valid model|model not exist|invalid model\b", re.IGNORECASE)
# Anchored at the start: further in, it may be the caller's own text echoed, and a failure of the credential
# takes the key out of service.
KEY_MESSAGE = re.compile(r"(?:incorrect|invalid) api key|api key not valid", re.IGNORECASE)
CREDIT_MESSAGE = re.compile(r"your credit balance is too low", re.IGNORECASE)
