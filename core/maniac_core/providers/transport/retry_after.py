"""When a provider says that a retry makes sense: Retry-After in seconds, as a date, or in milliseconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# A longer wait is as good as none, and a mistaken unit should not block a key for weeks.
LONGEST_S = 86_400.0


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, 0 to 86,400; None when the headers do not say. Names are lower case."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST_S)
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _until(value, headers.get("date"))
    return None if seconds is None else min(seconds, LONGEST_S)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None


def _until(text: str, date: str | None) -> float | None:
    """Return the seconds until an HTTP date, by the provider's own clock if it sent its time."""
    moment = _moment(text)
    if moment is None:
        return None
    now = _moment(date) if date else None
    return max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
