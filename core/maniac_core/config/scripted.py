"""The rules of a scripted provider, as tables of the configuration; docs/scripted.md describes each key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]

_CALLS = re.compile(r"[1-9]\d*(-([1-9]\d*)?)?")

# Keys that shape an answer of the model, as opposed to an error or a body of one's own.
_ANSWER = (
    "text",
    "reasoning",
    "tool_calls",
    "finish_reason",
    "usage",
    "chunk_chars",
    "chunk_delay_s",
    "malformed_chunk_after",
    "error_frame_after",
    "omit_done",
    "omit_finish_reason",
    "repeat_stream",
    "comment_every",
)
_ENDS = ("hang", "stall_after_chunks", "cut_after_chunks", "cut_after_bytes", "error_frame_after")
_RESPONSE = (
    "status",
    "headers",
    "error",
    "body",
    "first_token_delay_s",
    "comment_every_s",
    *_ANSWER,
    *_ENDS,
)
# A key, and the keys that would do nothing beside it.
_EXCLUSIVE = (
    ("refuse", ("reset", "delay_s", *_RESPONSE)),
    ("reset", _RESPONSE),
    ("body", ("error", *_ANSWER)),
    ("error", _ANSWER),
    ("repeat_stream", ("hang", "stall_after_chunks", "cut_after_chunks", "error_frame_after")),
    *((name, _ENDS[position + 1 :]) for position, name in enumerate(_ENDS)),
)


class _Table(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """A table of the file; a key that is not a field is refused by name.

    Encoded, it has only the keys that were given: `check-config` would drown a rule in the others.
    """


class ScriptedToolCall(_Table, frozen=True):
    """One call of a tool in an answer."""

    name: str
    arguments: dict[str, Any] | str = {}
    """A table becomes JSON; a text is sent as it is, so that it may be broken."""
    id: str | None = None
    """None: derived from the seed."""


class ScriptedUsage(_Table, frozen=True):
    """The usage that the answer reports; a count that is not given is estimated from the texts."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count = 0
    """Part of prompt_tokens."""
    reasoning_tokens: Count = 0
    """Part of completion_tokens."""
    cost: Annotated[float, Meta(ge=0)] | None = None
    """USD, where OpenRouter reports it."""


class ScriptedError(_Table, frozen=True):
    """The error object of a failed answer."""

    message: str = "scripted error"
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class ScriptedErrorFrame(_Table, frozen=True):
    """An error inside a stream."""

    chunks: Count = 1
    """How many chunks of content come before it."""
    error: ScriptedError = ScriptedError()


class ScriptedRule(_Table, frozen=True):
    """Which requests it answers, and how. The first rule that matches a request is used."""

    model: str | None = None
    """Exact name, or a pattern with `*`, `?` and `[…]`."""
    contains: str | None = None
    """A part of the last user message."""
    call: Positive | tuple[Positive, ...] | str | None = None
    """Number of the call to this provider, from 1; several; or a range, `"2-4"` or `"3-"`."""
    stream: bool | None = None
    times: Positive | None = None
    """After so many matches the rule is used up."""

    text: str | None = None
    """None: an echo of the last user message, unless there are tool calls."""
    reasoning: str | None = None
    tool_calls: tuple[ScriptedToolCall, ...] = ()
    finish_reason: str | None = None
    """None: `tool_calls` if there are any, else `stop`."""
    usage: ScriptedUsage | bool = True
    """`false`: the provider reports none."""
    chunk_chars: Positive | None = None
    """Characters in a chunk of a stream. None: a word."""

    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    """None: 200, or 500 if there is an `error`."""
    headers: dict[str, str] = {}
    error: ScriptedError | None = None
    body: str | None = None
    """The whole body, as it is."""

    delay_s: Seconds = 0.0
    """Before the head of the answer."""
    first_token_delay_s: Seconds = 0.0
    """Between the head and the first content."""
    chunk_delay_s: Seconds = 0.0
    """Before each further chunk."""
    chunk_jitter_s: Seconds = 0.0
    """Up to so much is added to each chunk_delay_s."""
    seed: int = 0
    """The seed for jitter and ids."""

    refuse: bool = False
    """The connection is refused."""
    reset: bool = False
    """The connection is reset before the head of the answer."""
    hang: Literal["connect", "headers", "first_token", "stream", "end"] | None = None
    """The part that never comes: the connection, the head, the first content, the end of the answer or of the body."""
    stall_after_chunks: Count | None = None
    cut_after_chunks: Count | None = None
    cut_after_bytes: Count | None = None
    cut_with: Literal["truncated", "reset", "end"] | None = None
    """How a cut shows: the framing is broken off (the default), a reset, or a body that just ends."""
    malformed_chunk_after: Count | None = None
    error_frame_after: ScriptedErrorFrame | None = None
    omit_done: bool = False
    omit_finish_reason: bool = False
    repeat_stream: bool = False
    """A second stream follows the first in the same body."""
    comment_every: Positive | None = None
    """A comment line before every n-th chunk."""
    comment_every_s: Annotated[float, Meta(ge=0.001)] | None = None
    """A comment line so often while nothing else comes."""

    def __post_init__(self) -> None:
        """Refuse keys that contradict each other: one of them would do nothing."""
        if isinstance(self.call, str):
            call_range(self.call)
        used = _used(self)
        for name, others in _EXCLUSIVE:
            if name in used:
                _forbid(used, name, others)
        if self.is_failure:
            _forbid(used, "status", _ANSWER)
        if self.hang in ("connect", "headers"):
            _forbid(used - {"hang"}, "hang", ("delay_s", *_RESPONSE))
        if "cut_with" in used and used.isdisjoint({"cut_after_chunks", "cut_after_bytes"}):
            raise ValueError("`cut_with` needs `cut_after_chunks` or `cut_after_bytes`")
        if "chunk_jitter_s" in used and "chunk_delay_s" not in used:
            raise ValueError("`chunk_jitter_s` needs `chunk_delay_s`")

    @property
    def is_failure(self) -> bool:
        """Whether the status alone makes the answer a failure."""
        return self.status is not None and self.status >= 300


def call_range(text: str) -> tuple[int, int | None]:
    """Return the first and the last call of a range such as `2-4`; None: it has no end.

    Raises:
        ValueError: it is not a range.

    """
    if not _CALLS.fullmatch(text):
        raise ValueError(f'`call` is {text!r}; a range is written "2-4" or "3-", from 1')
    first, dash, last = text.partition("-")
    if not dash:
        return int(first), int(first)
    if last and int(last) < int(first):
        raise ValueError(f"`call` is {text!r}, which ends before it begins")
    return int(first), int(last) if last else None


def _used(rule: ScriptedRule) -> set[str]:
    """Return the keys that are not at their default."""
    return {
        field.name
        for field in msgspec.structs.fields(rule)
        if (value := getattr(rule, field.name)) != field.default and value != {}
    }


def _forbid(used: set[str], name: str, others: tuple[str, ...]) -> None:
    for other in others:
        if other in used:
            raise ValueError(f"`{name}` and `{other}` exclude each other")
