"""Logs on standard error: JSON, or pretty on a terminal."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

LogFormat = Literal["auto", "json", "pretty"]
_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(
    log_format: LogFormat,
    package: str,
    is_news: Callable[[logging.LogRecord], bool] = lambda _: True,
) -> None:
    """Send the records of a package, and the warnings of libraries, to standard error, unless they are no news."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _PrettyFormatter() if is_pretty(log_format, sys.stderr) else _JSONFormatter()
    )
    handler.addFilter(is_news)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(package).setLevel(logging.INFO)


def is_pretty(log_format: LogFormat, stream: TextIO) -> bool:
    """Whether lines are for a person."""
    return log_format == "pretty" or (log_format == "auto" and stream.isatty())


def utc(moment: float) -> str:
    """Return a Unix time as ISO 8601, with milliseconds."""
    return f"{_second(int(moment))}.{int(moment % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _JSONFormatter(logging.Formatter):
    """One JSON object a line; what a record carries as `fields` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage().strip(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line).decode()


class _PrettyFormatter(logging.Formatter):
    """One line for a person; the fields follow the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Return the line without the exception."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + fields


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields
