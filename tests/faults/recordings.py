"""Recorded exchanges with providers, as the bytes a provider would send.

They lie in the folder that `MANIAC_RECORDINGS` names, or beside the repository; they are no part of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The clients of some recordings had asked for numbers; a gateway gets names.
_FINISH_NAMES = {1: "STOP", 2: "MAX_TOKENS"}


@dataclass
class Recording:
    """One exchange."""

    name: str
    model: str
    """What to ask the gateway for, so that the provider of the right dialect answers."""
    is_stream: bool
    status: int
    content_type: str
    body: bytes


def folder() -> Path:
    """Return where recordings are looked for."""
    configured = os.environ.get("MANIAC_RECORDINGS")
    return Path(configured) if configured else Path(__file__).parents[3] / "shared" / "recordings"


def named(*globs: str) -> list[Any]:
    """Return parameters for a test: one per recording, or one that is skipped."""
    paths = sorted({path for glob in globs for path in folder().glob(f"{glob}.json")})
    if paths:
        return [pytest.param(path, id=path.stem) for path in paths]
    skip = pytest.mark.skip(reason=f"no recordings in {folder()}; set MANIAC_RECORDINGS")
    return [pytest.param(None, marks=skip, id="none")]


def load(path: Path) -> Recording:
    """Read one."""
    exchange = json.loads(path.read_text())
    response = exchange["response"]
    is_stream = "-stream-" in path.stem
    body = response["body_text"]
    if (
        ":generateContent" in exchange["request"]["path"]
        or ":streamGenerate" in exchange["request"]["path"]
    ):
        body = _gemini(body, is_stream=is_stream and response["status"] == 200)
    is_events = is_stream and response["status"] == 200
    return Recording(
        name=path.stem,
        model=_model(exchange["request"]["path"]),
        is_stream=is_stream,
        status=response["status"],
        content_type="text/event-stream" if is_events else response["headers"]["content-type"],
        body=body.encode(),
    )


def _model(path: str) -> str:
    if path.endswith("/messages"):
        return "anthropic/claude-recorded"
    if "/publishers/google/" in path:
        return "vertex/gemini-recorded"
    return "gemini/gemini-recorded" if "enerateContent" in path else "openai/recorded"


def _gemini(body: str, *, is_stream: bool) -> str:
    """Undo what the recording client had asked for and a gateway does not: numbers for names, an array for events."""
    if not is_stream:
        value = json.loads(body)
        return json.dumps(_with_names(value)) if _has_numbers(value) else body
    if body.lstrip().startswith("["):
        chunks = json.loads(body)
        return "".join(f"data: {json.dumps(_with_names(chunk))}\r\n\r\n" for chunk in chunks)
    return body


def _has_numbers(answer: dict[str, Any]) -> bool:
    return any(isinstance(c.get("finishReason"), int) for c in answer.get("candidates", ()))


def _with_names(answer: dict[str, Any]) -> dict[str, Any]:
    for candidate in answer.get("candidates", ()):
        if isinstance(candidate.get("finishReason"), int):
            candidate["finishReason"] = _FINISH_NAMES[candidate["finishReason"]]
    return answer
