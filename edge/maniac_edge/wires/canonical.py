"""Answers in chat's form, as the core sends them to wires other than chat: read, for the writers of these wires."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

_Details = dict[str, Any]


class FunctionDelta(msgspec.Struct):
    """A piece of a call."""

    name: str | None = None
    arguments: str = ""


class CallDelta(msgspec.Struct):
    """What a step adds to one tool call."""

    index: int = 0
    id: str | None = None
    function: FunctionDelta = msgspec.field(default_factory=FunctionDelta)
    seal: str | None = None
    """To be sent back with the call."""


class Delta(msgspec.Struct):
    """What a step adds to the message."""

    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: list[_Details] | None = None
    """Pieces of reasoning that clients of the wire know as they are."""
    seals: list[str] | None = None
    """Of the reasoning that has just ended, to be sent back; comes before what follows it."""
    tool_calls: list[CallDelta] | None = None
    annotations: list[_Details] | None = None


class Step(msgspec.Struct):
    """One step of the one choice."""

    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    """The provider's own word."""
    stop_sequence: str | None = None


class PromptDetails(msgspec.Struct):
    """Parts of the prompt's tokens."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    """Parts of the generated tokens."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails = msgspec.field(default_factory=PromptDetails)
    completion_tokens_details: CompletionDetails = msgspec.field(default_factory=CompletionDetails)


class Chunk(msgspec.Struct):
    """A step of a streamed answer; the identity is the same on every one."""

    id: str
    created: int
    model: str
    provider: str | None = None
    container: str | None = None
    choices: list[Step] = []
    usage: Usage | None = None


class _Call(msgspec.Struct):
    id: str
    function: FunctionDelta
    seal: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: list[_Details] = []
    seals: list[str] | None = None
    tool_calls: list[_Call] = []
    annotations: list[_Details] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    stop_sequence: str | None = None
    blocks: list[tuple[str, int]] = []


class _Answer(msgspec.Struct):
    id: str
    created: int
    model: str
    provider: str | None = None
    container: str | None = None
    choices: list[_Choice] = []
    usage: Usage | None = None


_chunk = msgspec.json.Decoder(Chunk).decode
_answer = msgspec.json.Decoder(_Answer).decode
_PREFIX = len(b"data: ")


def read_events(data: bytes) -> list[Chunk]:
    """Return the steps of events that came together."""
    return [_chunk(event[_PREFIX:]) for event in data.split(b"\n\n") if event]


def read_whole(data: bytes) -> list[Chunk]:
    """Return a whole answer as the steps in which it might have come, so that one writer serves both."""
    answer = _answer(data)
    steps = [step for choice in answer.choices[:1] for step in _steps(choice)]
    return [_of(answer, steps), _of(answer, [], answer.usage)]


def _of(answer: _Answer, steps: list[Step], usage: Usage | None = None) -> Chunk:
    return Chunk(
        id=answer.id,
        created=answer.created,
        model=answer.model,
        provider=answer.provider,
        container=answer.container,
        choices=steps,
        usage=usage,
    )


def _steps(choice: _Choice) -> Iterator[Step]:
    message = choice.message
    text, thoughts = message.content or "", message.reasoning or ""
    details = iter(message.reasoning_details)
    calls = iter(enumerate(message.tool_calls))
    seals = message.seals
    blocks = choice.blocks or [
        ("reasoning", len(thoughts)),
        ("text", len(text)),
        ("tool_call", len(message.tool_calls)),
    ]
    thinking_left = sum(kind == "reasoning" for kind, _ in blocks)
    for kind, count in blocks:
        if kind == "reasoning":
            thinking_left -= 1
            piece, thoughts = thoughts[:count], thoughts[count:]
            # The last one takes what is left of the details.
            own = list(islice(details, 1) if thinking_left else details)
            yield Step(delta=Delta(reasoning=piece or None, reasoning_details=own or None))
            if not thinking_left and seals:
                yield Step(delta=Delta(seals=seals))
                seals = None
        elif kind == "text":
            piece, text = text[:count], text[count:]
            if piece:
                # Positions count the whole content, so that they fit the last text if there are several.
                cited = None if text else message.annotations
                yield Step(delta=Delta(content=piece, annotations=cited))
        elif taken := list(islice(calls, count)):
            yield Step(delta=Delta(tool_calls=[_delta(index, call) for index, call in taken]))
    if seals:
        yield Step(delta=Delta(seals=seals))
    if message.refusal:
        yield Step(delta=Delta(refusal=message.refusal))
    yield Step(
        finish_reason=choice.finish_reason,
        native_finish_reason=choice.native_finish_reason,
        stop_sequence=choice.stop_sequence,
    )


def _delta(index: int, call: _Call) -> CallDelta:
    return CallDelta(index=index, id=call.id, function=call.function, seal=call.seal)
