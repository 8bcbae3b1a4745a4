"""AWS's event streams: whatever the pieces, the same events, and never one that the checksums do not vouch for."""

from __future__ import annotations

import json
import struct
import zlib

import event_frames as frames
import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from maniac_core.providers.transport.eventstream import MAX_MESSAGE_BYTES, EventStreamDecoder
from maniac_core.providers.transport.sse import FramingError, SSEEvent

EVENTS = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"delta": {"text": "grüß"}, "contentBlockIndex": 0}),
    ("metadata", {"usage": {"inputTokens": 1}, "p": "abcdefgh"}),
]
STREAM = b"".join(frames.event(*one) for one in EVENTS)
WANTED = [SSEEvent(name, json.dumps(payload).encode()) for name, payload in EVENTS]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 64, len(STREAM)])
def test_any_pieces_are_the_same_events(size: int) -> None:
    """Also those that end inside a number or a checksum."""
    decoder = EventStreamDecoder()
    found: list[SSEEvent] = []
    for start in range(0, len(STREAM), size):
        found += decoder.feed(STREAM[start : start + size])
    assert found + decoder.finish() == WANTED


def test_a_split_at_every_byte_changes_nothing() -> None:
    """Two pieces, whatever the first is."""
    for cut in range(len(STREAM) + 1):
        decoder = EventStreamDecoder()
        assert [*decoder.feed(STREAM[:cut]), *decoder.feed(STREAM[cut:])] == WANTED


def test_a_cut_yields_whole_messages_only() -> None:
    """At every byte: what is half is not given out, at the end neither."""
    ends = [len(b"".join(frames.event(*one) for one in EVENTS[:count])) for count in range(1, 4)]
    for cut in range(len(STREAM)):
        decoder = EventStreamDecoder()
        found = decoder.feed(STREAM[:cut]) + decoder.finish()
        assert found == WANTED[: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("at", range(len(frames.event(*EVENTS[1]))))
def test_no_flipped_bit_goes_unnoticed(at: int) -> None:
    """In the length, the headers, the payload or a checksum; the events before it are given out first."""
    first, second, third = (bytearray(frames.event(*one)) for one in EVENTS)
    second[at] ^= 0x10
    decoder = EventStreamDecoder()
    assert decoder.feed(bytes(first + second + third)) == WANTED[:1]
    for _ in range(2):
        with pytest.raises(FramingError):
            decoder.feed(b"")
    with pytest.raises(FramingError):
        decoder.finish()


def _prelude(total: int, headers: int) -> bytes:
    numbers = struct.pack(">II", total, headers)
    return numbers + struct.pack(">I", zlib.crc32(numbers))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (_prelude(MAX_MESSAGE_BYTES + 1, 0), "more than"),
        (_prelude(15, 0), "shorter than its headers"),
        (_prelude(40, 25), "shorter than its headers"),
        (frames.message(b"\x05abc", b""), "headers cannot be read"),
        (frames.message(b"\x01a\x0a", b""), "headers cannot be read"),
        (frames.message(b"\x01a\x07\x00\x09abc", b""), "headers cannot be read"),
        (frames.message(b"\x01\xff\x00", b""), "headers cannot be read"),
        (b"data: {}\n\nmore", "wrong checksum"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, what: str) -> None:
    """With good checksums too, and before memory is given to a length that is none."""
    with pytest.raises(FramingError, match=what):
        EventStreamDecoder().feed(data)


def test_errors_have_names_of_their_own() -> None:
    """Those that the service models, and others, whose words stand in a header."""
    stream = frames.exception("throttlingException", {"message": "slow"})
    stream += frames.error("InternalFailure", "it broke")
    assert EventStreamDecoder().feed(stream) == [
        SSEEvent("exception:throttlingException", b'{"message": "slow"}'),
        SSEEvent("exception:InternalFailure", b'{"message":"it broke"}'),
    ]


def test_headers_of_every_type_are_passed_over() -> None:
    """Only texts are of interest."""
    values = [
        b"\x00",
        b"\x01",
        b"\x02\x07",
        b"\x03\x00\x07",
        b"\x04" + bytes(4),
        b"\x05" + bytes(8),
        b"\x06\x00\x03abc",
        b"\x08" + bytes(8),
        b"\x09" + bytes(16),
    ]
    headers = b"".join(b"\x01h" + value for value in values)
    headers += frames.text_header(":event-type", "late")
    assert EventStreamDecoder().feed(frames.message(headers, b"x")) == [SSEEvent("late", b"x")]


@given(
    st.lists(st.tuples(st.text("abcXYZ", min_size=1, max_size=20), st.binary(max_size=300))),
    st.integers(1, 50),
)
def test_events_are_those_that_aws_reads(given_events: list[tuple[str, bytes]], size: int) -> None:
    """The same as its own library finds in the same bytes."""
    stream = b"".join(
        frames.message(frames.text_header(":event-type", name), data) for name, data in given_events
    )
    theirs = EventStreamBuffer()
    theirs.add_data(stream)
    decoder = EventStreamDecoder()
    ours = [
        event
        for start in range(0, len(stream), size)
        for event in decoder.feed(stream[start : start + size])
    ]
    assert ours == [SSEEvent(one.headers[":event-type"], one.payload) for one in theirs]
