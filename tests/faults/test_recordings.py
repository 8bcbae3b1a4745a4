"""Recorded exchanges through the whole gateway: what the client sees is what is recorded, chopped or cut."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import MESSAGES
from gateway import Gateway
from ledger import Ledger
from providers import Exchange, Handler, Providers
from recordings import Recording, load, named

EVERYTHING = named("*-stream-*", "*-unary-*")
# One of each dialect with tools or thinking in it, so that there is something to break.
TYPICAL = [
    *named("anthropic-stream-parts-thinking-01"),
    *named("anthropic-stream-tools-01"),
    *named("gemini-stream-tools-with-gemini-3-thought-signatures-01"),
    *named("openai-stream-async-chat-completion-multiple-tools-streaming-with-cont-01"),
]


@dataclass
class Seen:
    """What the client of one request saw."""

    request_id: str
    completion_id: str | None = None
    error: dict[str, Any] | None = None
    status: int = 200
    choices: dict[int, dict[str, Any]] = field(default_factory=dict)
    usage: dict[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the answer ended as answers do."""
        return self.error is None and self.status == 200


def play(
    recording: Recording, pieces: Iterable[bytes] | None = None, *, cut: bool = False
) -> Handler:
    """Send a recording; streams in pieces of chunked framing, which a cut leaves open."""

    async def handle(exchange: Exchange) -> None:
        if not recording.is_stream or recording.status != 200:
            await exchange.respond(recording.status, recording.body, recording.content_type)
            return
        await exchange.begin_stream()
        for piece in pieces if pieces is not None else [recording.body]:
            await exchange.chunk(piece)
        if cut:
            exchange.close()
        else:
            await exchange.chunk(b"")

    return handle


def ask_for(gateway: Gateway, recording: Recording) -> Seen:
    """Ask as the recorded client did, streamed or not, and collect what comes."""
    seen = Seen(request_id=uuid.uuid4().hex)
    body: dict[str, Any] = {"model": recording.model, "messages": MESSAGES}
    if recording.is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    with gateway.client() as http:
        response = http.post(
            "/v1/chat/completions", json=body, headers={"x-request-id": seen.request_id}
        )
    seen.status = response.status_code
    if response.status_code != 200:
        seen.error = response.json()["error"]
    elif recording.is_stream:
        read_stream(seen, response)
    else:
        answer = response.json()
        seen.completion_id, seen.usage = answer["id"], answer["usage"]
        for choice in answer["choices"]:
            seen.choices[choice["index"]] = whole(choice["message"], choice["finish_reason"])
    return seen


def read_stream(seen: Seen, response: httpx.Response) -> None:
    """Concatenate a stream by means that share nothing with the gateway's own."""
    frames = [frame.removeprefix("data: ") for frame in response.text.split("\n\n") if frame]
    assert frames.pop() == "[DONE]"
    for frame in map(json.loads, frames):
        if "error" in frame:
            seen.error = frame["error"]
            continue
        assert seen.completion_id in (None, frame["id"])
        seen.completion_id = frame["id"]
        seen.usage = frame.get("usage") or seen.usage
        for choice in frame["choices"]:
            made = seen.choices.setdefault(choice["index"], whole({}, None))
            add_delta(made, choice["delta"])
            if choice["finish_reason"]:
                assert made["finish_reason"] is None, "a second finish reason"
                made["finish_reason"] = choice["finish_reason"]


def add_delta(made: dict[str, Any], delta: dict[str, Any]) -> None:
    for key in ("content", "reasoning", "refusal"):
        made[key] += delta.get(key) or ""
    for detail in delta.get("reasoning_details") or ():
        made["thoughts"] += detail.get("text") or ""
        made["signatures"] += detail.get("signature") or detail.get("data") or ""
    for call in delta.get("tool_calls") or ():
        known = made["calls"].setdefault(call["index"], {"name": "", "arguments": ""})
        known["id"] = call.get("id") or known.get("id")
        known["extra"] = call.get("extra_content") or known.get("extra")
        function = call.get("function") or {}
        known["name"] += function.get("name") or ""
        known["arguments"] += function.get("arguments") or ""


def whole(message: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    """Return the parts of a message that streams and whole answers share."""
    made: dict[str, Any] = {
        "content": "", "reasoning": "", "refusal": "", "thoughts": "", "signatures": "",
        "calls": {}, "finish_reason": finish_reason,
    }  # fmt: skip
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or ())]
    add_delta(made, {**message, "tool_calls": calls})
    return made


def stored(gateway: Gateway, completion_id: str) -> tuple[dict[int, dict[str, Any]], Any]:
    """Return the stored answer's choices and usage, read back through the API."""
    with gateway.client() as http:
        record = http.get(f"/v1/chat/completions/{completion_id}").json()
    choices = {
        choice["index"]: whole(choice["message"], choice["finish_reason"])
        for choice in record["choices"]
    }
    return choices, record["usage"]


@pytest.mark.parametrize("path", EVERYTHING)
def test_a_recording_is_seen_as_it_is_stored(
    gateway: Gateway, providers: Providers, ledger: Ledger, path: Path
) -> None:
    """Text, tool calls, reasoning, finish reasons and usage of the client are those of the record."""
    recording = load(path)
    providers.handlers[recording.model.partition("/")[0]] = play(recording)

    seen = ask_for(gateway, recording)

    record = ledger.record(seen.request_id)
    if recording.status != 200:
        assert seen.status == recording.status
        assert (record["status"], record["output"]) == ("failed", [])
        return
    assert seen.is_whole, seen.error
    assert seen.completion_id == record["id"]
    assert record["status"] == "completed"
    choices, usage = stored(gateway, record["id"])
    assert seen.choices == choices
    assert all(choice["finish_reason"] for choice in choices.values())
    assert seen.usage == usage
    assert record["usage_source"] in ("provider", "estimated")


@pytest.mark.parametrize("size", [1, 7, 1000, None], ids=["1", "7", "1000", "random"])
@pytest.mark.parametrize("path", TYPICAL)
def test_chopping_changes_nothing(
    gateway: Gateway, providers: Providers, path: Path, size: int | None
) -> None:
    """However the provider's bytes arrive, the client sees the same answer."""
    recording = load(path)
    provider = recording.model.partition("/")[0]
    providers.handlers[provider] = play(recording)
    unbroken = ask_for(gateway, recording)
    providers.handlers[provider] = play(recording, chopped(recording.body, size))

    seen = ask_for(gateway, recording)

    assert seen.is_whole
    assert without_ids(seen) == without_ids(unbroken)
    assert seen.usage == unbroken.usage


@pytest.mark.parametrize("path", TYPICAL)
def test_a_cut_never_looks_whole(
    gateway: Gateway, providers: Providers, ledger: Ledger, path: Path
) -> None:
    """A recording that is cut is an error or, past its end marker, the whole answer; never something in between."""
    recording = load(path)
    provider = recording.model.partition("/")[0]
    providers.handlers[provider] = play(recording)
    unbroken = without_ids(ask_for(gateway, recording))
    chance = random.Random(recording.name)
    size = len(recording.body)
    offsets = sorted({*chance.sample(range(1, size), 24), size - 1, size - 2, size})
    broken = 0
    for at in offsets:
        providers.handlers[provider] = play(recording, [recording.body[:at]], cut=True)

        seen = ask_for(gateway, recording)

        record = ledger.record(seen.request_id)
        if seen.is_whole:
            assert without_ids(seen) == unbroken, at
            assert record["status"] == "completed"
            continue
        broken += 1
        assert record["status"] == ("truncated" if seen.choices else "failed"), at
        assert not any(choice["finish_reason"] for choice in seen.choices.values()), at
        assert seen.error is not None
        assert seen.error["code"] == "upstream_error"
    assert broken > len(offsets) / 2


def chopped(data: bytes, size: int | None) -> list[bytes]:
    """Return the pieces: of one size, or of random ones."""
    if size is not None:
        return [data[at : at + size] for at in range(0, len(data), size)]
    chance = random.Random(len(data))
    pieces = []
    while data:
        at = chance.randint(1, 200)
        pieces.append(data[:at])
        data = data[at:]
    return pieces


def without_ids(seen: Seen) -> dict[int, dict[str, Any]]:
    """Return the choices; a call that came without an id gets another one each time."""
    return {
        index: {
            **choice,
            "calls": {number: {**call, "id": None} for number, call in choice["calls"].items()},
        }
        for index, choice in seen.choices.items()
    }
