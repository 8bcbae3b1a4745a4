"""A provider's JSON that is made to be slow to read."""

from __future__ import annotations

import contextlib
import time

import msgspec
import pytest
from maniac_core.providers.base import Prompt, StreamError, UpstreamFailure
from maniac_core.providers.registry import DIALECTS
from maniac_core.providers.translation.foreign_json import decode
from maniac_core.providers.transport.sse import SSEEvent

_anything = msgspec.json.Decoder()
MIB = 1024 * 1024
# A second on a loaded machine; what it replaces takes minutes.
LONGEST_S = 1.0
SLOW = {
    "escaped quotes that nothing closes": b'"' + b'\\"' * 100_000,
    "quotes": b'{"a":' + b'""' * MIB,
    "no numbers": b"[" + b"NaN" * 300_000,
    "halves of pairs": b'["' + b"\\ud800" * 300_000,
    "escapes before half of a pair": b'["' + b"\\n" * 400_000 + b'\\ud800"',
    "backslashes": b'{"a' + b"\\" * MIB,
    "minus signs": b"[" + b"-1,-" * 200_000 + b"NaN]",
}


@pytest.mark.parametrize("data", SLOW.values(), ids=SLOW.keys())
def test_mending_takes_no_longer_than_reading(data: bytes) -> None:
    """Nothing that a provider sends holds the core up: its time grows with the bytes alone."""
    began = time.process_time()
    with contextlib.suppress(msgspec.DecodeError):
        decode(_anything, data)
    assert time.process_time() - began < LONGEST_S


def test_what_python_writes_is_mended() -> None:
    """Numbers that are none are null, half a pair is U+FFFD, and texts that only look so stay as they are."""
    text = rb'{"a": NaN, "b": -Infinity, "c": "NaN \ud83d\ude00 \ud83d \\ud800", "d": [-1, Infinity], "e": "\n\udc00"}'
    assert decode(_anything, text) == {
        "a": None,
        "b": None,
        "c": "NaN \U0001f600 � \\ud800",
        "d": [-1, None],
        "e": "\n�",
    }


def test_more_choices_than_can_be_asked_for_are_no_answer() -> None:
    """Each costs the edge, the client and the record far more than its bytes."""
    choice = b'{"index":0,"message":{"content":"x"},"delta":{"content":"x"}}'
    many = (
        b'{"choices":['
        + b",".join([choice] * 129)
        + b'],"usage":{"prompt_tokens":7,"completion_tokens":9}}'
    )
    dialect = DIALECTS["openai"]

    with pytest.raises(UpstreamFailure, match="choices holds more than 128") as refused:
        dialect.decode(many)
    assert refused.value.usage is not None

    prompt = Prompt(messages=[{"role": "user", "content": "Hi"}], parameters={}, stream=True)
    items = dialect.stream_decoder(prompt).feed(SSEEvent(None, many))
    assert isinstance(items[-1], StreamError)


def test_an_answer_has_a_thousand_tool_calls_at_most() -> None:
    """No model makes so many, and each costs far more than its bytes; what they cost is charged all the same."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call] * 1001}}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    with pytest.raises(UpstreamFailure, match="tool_calls holds more than 1000") as refused:
        DIALECTS["openai"].decode(msgspec.json.encode({"choices": [choice], "usage": usage}))
    assert refused.value.usage is not None
    assert refused.value.usage.total_tokens == 12
