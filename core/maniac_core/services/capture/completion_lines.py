"""The log lines of completions, written past `logging`, which costs several times what such a line does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from maniac_common.logs import LogFormat, is_pretty, utc

_encode = msgspec.json.Encoder().encode


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
    """Return what writes lines of completions, with their Unix times, at once."""

    def write(lines: list[tuple[float, CompletionLine]]) -> None:
        form = _pretty_line if is_pretty(log_format, sys.stderr) else _json_line
        sys.stderr.write("".join([form(moment, line) for moment, line in lines]))
        sys.stderr.flush()

    return write


def _json_line(moment: float, line: CompletionLine) -> str:
    head = f'{{"time":"{utc(moment)}","level":"info","event":"completion",'
    return f"{head}{_encode(line)[1:].decode()}\n"


def _pretty_line(moment: float, line: CompletionLine) -> str:
    given = msgspec.structs.asdict(line).items()
    fields = " ".join(f"{name}={value}" for name, value in given if value is not None)
    return f"{datetime.fromtimestamp(moment, UTC).astimezone():%H:%M:%S} completion {fields}\n"
