"""Answers that something happened to, through every dialect: read, or a failure that says so; never anything else.

What gets through is stored and shown, so it is taken all the way: to the contract's messages, to JSON, and back from
what would be stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import malformed
import msgspec
import pytest
from maniac_core.domain.canonical_json import content_hash
from maniac_core.domain.chat import Answer, Choice, ChoiceDelta, Chunk, Completion, Usage
from maniac_core.domain.completions import StoredCompletion
from maniac_core.providers.base import Prompt, StreamEnd, StreamError, StreamItem, UpstreamFailure
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.translation.accumulator import Accumulator
from maniac_core.providers.translation.counts import MAX_TOKENS
from maniac_core.providers.transport.sse import FramingError
from maniac_core.rpc.chat.answer import chunk_to_proto, completion_to_proto
from maniac_core.rpc.chat.json_answer import ChunkEncoder, completion_to_json
from maniac_core.rpc.chat.stored import stored_to_proto
from maniac_core.services.capture.accounting import usage_of
from maniac_core.services.capture.capture import choices_json
from maniac_core.services.routing.planner import Step
from maniac_core.services.routing.router import Candidate
from maniac_edge.convert.completions import stored_to_json
from maniac_edge.http.responses import encode

KINDS = ("openai", "openai-responses", "anthropic", "gemini", "bedrock")
PROMPT = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
STEP = Step(candidate=Candidate(slug="p/m", provider="p", model="m", config=None), prompt=PROMPT)
SEEDS = range(1000)
INT64_MAX = 2**63 - 1


def keep(choices: list[Choice], reported: Usage | None) -> None:
    """Go the way of an answer: to the client, into the store, and back."""
    usage, _ = usage_of(STEP, choices, reported)
    assert all(
        value is None or 0 <= value <= 2 * MAX_TOKENS
        for value in msgspec.structs.astuple(usage)[:8]
    )
    assert usage.cost_nano_usd is None or 0 <= usage.cost_nano_usd < INT64_MAX
    completion = Completion(
        id="c",
        created=1,
        model="m",
        provider="p",
        container=None,
        choices=choices,
        usage=usage,
    )
    completion_to_proto(completion)
    shown = json.loads(completion_to_json(completion))
    output = msgspec.json.encode(choices_json(choices))
    content_hash(b'{"messages":[]}', output)
    stored = StoredCompletion(
        id="c",
        created=1,
        status="completed",
        model="m",
        provider="p",
        container_label=None,
        model_id=None,
        finish_reason=None,
        usage=usage,
        usage_source="provider",
        spend_nano_usd=None,
        time_to_first_token_us=None,
        latency_us=1,
        tags=(),
        metadata=None,
        trace=None,
        output=output,
    )
    read = json.loads(encode(stored_to_json(stored_to_proto(stored))))
    assert read["choices"] == shown["choices"]


def check_failure(failure: UpstreamFailure) -> None:
    assert failure.message
    assert len(failure.message) <= 500
    assert failure.message.isprintable()
    assert failure.retry_after_s is None or 0 <= failure.retry_after_s <= 86_400
    assert failure.usage is None or failure.may_be_billed


@pytest.mark.parametrize("kind", KINDS)
def test_whole_answers_are_read_or_refused(kind: str) -> None:
    """Whatever a provider answers is an answer that everybody can read, or a failure of the provider."""
    dialect, kept = DIALECTS[kind], 0
    for seed in SEEDS:
        body = malformed.whole(kind, seed)
        try:
            answer: Answer = dialect.decode(body)
        except UpstreamFailure as failure:
            check_failure(failure)
        else:
            kept += 1
            keep(answer.choices, answer.usage)
    # Else the test would be of nothing but failures.
    assert kept > len(SEEDS) / 5


@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_read_or_broken_off(kind: str) -> None:
    """A stream ends as a whole answer, as an error, or not at all; what came of it can be read by everybody."""
    kept = 0
    for seed in SEEDS:
        items = replay(kind, malformed.pieces(malformed.stream(kind, seed), seed))
        ends = [item for item in items if isinstance(item, StreamEnd | StreamError)]
        assert len(ends) <= 1
        if ends:
            assert items[-1] is ends[0]
        if ends and isinstance(ends[0], StreamError):
            check_failure(ends[0].failure)
        kept += bool(ends) and isinstance(ends[0], StreamEnd)
        folded = Accumulator()
        folded.add_all(items)
        keep(folded.choices(), folded.usage)
        show(item for item in items if isinstance(item, ChoiceDelta))
    assert kept > len(SEEDS) / 5


def replay(kind: str, pieces: Iterable[bytes]) -> list[StreamItem]:
    framing, decoder = DIALECTS[kind].framing(), DIALECTS[kind].stream_decoder(PROMPT)
    items: list[StreamItem] = []
    try:
        for piece in pieces:
            for event in framing.feed(piece):
                items += decoder.feed(event)
        for event in framing.finish():
            items += decoder.feed(event)
    except FramingError:
        # Its checksum tells what was damaged.
        return items
    return items + decoder.finish()


def show(deltas: Iterable[ChoiceDelta]) -> None:
    encoder = ChunkEncoder(include_usage=True)
    for delta in deltas:
        chunk = Chunk(id="c", created=1, model="m", provider="p", container=None, choices=(delta,))
        chunk_to_proto(chunk)
        frame = encoder.events([chunk])
        value: dict[str, Any] = json.loads(frame.removeprefix(b"data: "))
        assert value["choices"][0]["index"] == delta.index
