"""Logs of the core, of `serve` and of the embedded model, on standard error: JSON, or pretty on a terminal."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode


LogFormat = Literal["auto", "json", "pretty"]


def configure(log_format: LogFormat) -> None:
    """Send the gateway's own records, and warnings of libraries, to standard error."""
    is_pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrettyFormatter() if is_pretty else _JSONFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("maniac_core").setLevel(logging.INFO)


class CompletionLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The log line of a completion."""

    request_id: str
    completion: str
    status: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None: the price is unknown."""
    key: str | None
    """The name given to the key at its creation. None: the internal service key."""
    duration_ms: float
    error: str | None = None


def completion_writer(
    log_format: LogFormat,
) -> Callable[[list[tuple[float, CompletionLine]]], None]:
    """Return what writes lines of completions, with their Unix times, at once.

    It goes past `logging`, which costs several times what such a line does.
    """
    is_pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())

    def write(lines: list[tuple[float, CompletionLine]]) -> None:
        form = _pretty_line if is_pretty else _json_line
        sys.stderr.write("".join([form(moment, line) for moment, line in lines]))
        sys.stderr.flush()

    return write


def _json_line(moment: float, line: CompletionLine) -> str:
    head = f'{{"time":"{_utc(moment)}","level":"info","event":"completion",'
    return f"{head}{_encode(line)[1:].decode()}\n"


def _pretty_line(moment: float, line: CompletionLine) -> str:
    given = msgspec.structs.asdict(line).items()
    fields = " ".join(f"{name}={value}" for name, value in given if value is not None)
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%H:%M:%S} completion {fields}\n"


def _utc(moment: float) -> str:
    return f"{_second(int(moment))}.{int(moment % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=1)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _JSONFormatter(logging.Formatter):
    """One JSON object a line; what a record carries as `fields` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
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
