"""One question through the `openai` client, and everything that came of it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import openai

MESSAGES = [{"role": "user", "content": "Hi there"}]


@dataclass
class Asked:
    """What the client told."""

    request_id: str
    text: str = ""
    model: str | None = None
    provider: str | None = None
    container: str | None = None
    finish_reason: str | None = None
    usage: Any = None
    error: openai.APIError | None = None
    """What it raised."""
    chunks: int = 0
    elapsed_s: float = 0.0
    completion_id: str | None = None
    message: dict[str, Any] = field(default_factory=dict)
    """Of a whole answer."""

    @property
    def has_begun(self) -> bool:
        """Whether a stream began before it ended or broke."""
        return self.chunks > 0

    @property
    def status(self) -> int | None:
        """HTTP status of the error; None for one inside a stream."""
        return getattr(self.error, "status_code", None)


def ask(client: openai.OpenAI, model: str, *, stream: bool, **parameters: Any) -> Asked:
    """Ask, and collect the answer or the exception."""
    asked = Asked(request_id=f"faults-{uuid.uuid4().hex}")
    headers = {"x-request-id": asked.request_id, **parameters.pop("extra_headers", {})}
    if stream:
        parameters.setdefault("stream_options", {"include_usage": True})
    started = time.monotonic()
    try:
        answer = client.chat.completions.create(
            model=model,
            messages=parameters.pop("messages", MESSAGES),
            stream=stream,
            extra_headers=headers,
            **parameters,
        )
        if stream:
            for chunk in answer:
                _add_chunk(asked, chunk)
        else:
            _take_whole(asked, answer)
    except openai.APIError as error:
        asked.error = error
    asked.elapsed_s = time.monotonic() - started
    return asked


def _take_whole(asked: Asked, answer: Any) -> None:
    choice = answer.choices[0]
    _identify(asked, answer)
    asked.text = choice.message.content or ""
    asked.message = choice.message.to_dict()
    asked.finish_reason = choice.finish_reason
    asked.usage = answer.usage


def _add_chunk(asked: Asked, chunk: Any) -> None:
    asked.chunks += 1
    _identify(asked, chunk)
    if chunk.usage is not None:
        asked.usage = chunk.usage
    for choice in chunk.choices:
        asked.text += choice.delta.content or ""
        if choice.finish_reason is not None:
            assert asked.finish_reason is None, "a second finish reason"
            asked.finish_reason = choice.finish_reason


def _identify(asked: Asked, answer: Any) -> None:
    assert asked.completion_id in (None, answer.id), "two answers in one"
    asked.completion_id = answer.id
    asked.model = answer.model
    asked.provider = answer.model_extra["provider"]
    asked.container = answer.model_extra["container"]
